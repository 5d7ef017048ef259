"""Triangle meshes in the canonical frame: right-handed, Y up, centred, longest side 1 (inside [-.5, .5]^3)."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput

FRAME = "y-up, centred, longest side 1"

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh.

    vertices_N3: float32 positions. faces_F3: int32 indices, counter-clockwise seen from outside.
    colours_N4: uint8 RGBA of the vertices, or None.
    """

    vertices_N3: FloatArray
    faces_F3: IntArray
    colours_N4: ByteArray | None = None

    @property
    def extents(self) -> FloatArray:
        """Side lengths (3,) of the axis-aligned bounding box."""
        if len(self.vertices_N3) == 0:
            return np.zeros(3, np.float32)
        extents: FloatArray = np.ptp(self.vertices_N3, axis=0)
        return extents

    def to_glb(self) -> bytes:
        """Bytes of a binary glTF with vertex colours; equal meshes give equal bytes."""
        import trimesh

        mesh = trimesh.Trimesh(self.vertices_N3, self.faces_F3, process=False)
        if self.colours_N4 is not None:
            mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=self.colours_N4)
        exported: bytes = mesh.export(file_type="glb")
        return exported

    @staticmethod
    def from_glb(data: bytes) -> Mesh:
        """The geometry (and vertex colours, where there are any) of a GLB.

        Vertices are kept as stored: texture seams split them. `weld` joins them. Raises BadInput.
        """
        scene = load_scene(data, "glb")
        mesh = scene.to_geometry()
        if not hasattr(mesh, "faces") or len(mesh.faces) == 0:
            raise BadInput("the GLB holds no triangles")
        colours = None
        if getattr(mesh.visual, "kind", None) == "vertex":
            colours = np.asarray(mesh.visual.vertex_colors, np.uint8)
        return Mesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32), colours)


def load_scene(data: bytes, file_type: str, resolver: Any = None) -> Any:
    """Parse mesh bytes with trimesh into a `trimesh.Scene`; anything it chokes on becomes BadInput."""
    import trimesh

    try:
        return trimesh.load_scene(io.BytesIO(data), file_type=file_type, resolver=resolver, process=False)
    except MemoryError:
        raise
    except Exception as error:  # trimesh's readers raise whatever their parser hits
        raise BadInput(f"not a readable {file_type} mesh: {type(error).__name__}: {error}") from error


def weld(mesh: Mesh, digits: int = 6) -> Mesh:
    """Join vertices that share a position (to `digits` decimals) and drop the faces that collapse.

    A joined vertex has the colour of one of them.
    """
    rounded = np.round(mesh.vertices_N3, digits)
    _, first, inverse = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    faces = inverse.reshape(-1)[mesh.faces_F3].astype(np.int32)
    proper = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    colours = None if mesh.colours_N4 is None else mesh.colours_N4[first]
    return Mesh(mesh.vertices_N3[first], faces[proper], colours)


def face_areas(mesh: Mesh) -> npt.NDArray[np.float64]:
    """Area (F,) of each triangle."""
    corners_F33 = mesh.vertices_N3.astype(np.float64)[mesh.faces_F3]
    cross_F3 = np.cross(corners_F33[:, 1] - corners_F33[:, 0], corners_F33[:, 2] - corners_F33[:, 0])
    areas: npt.NDArray[np.float64] = np.linalg.norm(cross_F3, axis=1) / 2
    return areas


def sample_surface(mesh: Mesh, num_points: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Area-uniform samples of the surface: points (num_points, 3) and their unit face normals.

    Raises BadInput for a mesh without area.
    """
    areas_F = face_areas(mesh)
    total = float(areas_F.sum())
    if not np.isfinite(total) or total <= 0:
        raise BadInput("the mesh has no surface area")
    face = np.searchsorted(np.cumsum(areas_F), rng.random(num_points) * total, side="right").clip(0, len(areas_F) - 1)
    u, v = rng.random((2, num_points))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    a, b, c = (mesh.vertices_N3[mesh.faces_F3[face, corner]].astype(np.float64) for corner in range(3))
    points = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return points.astype(np.float32), normals.astype(np.float32)


def stored_points(mesh: Mesh, name: str, num_points: int) -> FloatArray:
    """Area-uniform points (num_points, 3), decided by the name: the same at every reading, others for each name.

    Raises BadInput for a mesh without area.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return sample_surface(mesh, num_points, np.random.default_rng(seed))[0]

"""Triangle meshes in the canonical frame: right-handed, Y up, centred, longest side 1 (inside [-.5, .5]^3)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles import Part, concatenated, read_glb, write_glb

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
        return write_glb([Part(self.vertices_N3, self.faces_F3.astype(np.int64), colours_N4=self.colours_N4)])

    @staticmethod
    def from_glb(data: bytes) -> Mesh:
        """The geometry of a GLB, and its vertex colours where all its parts have some.

        Vertices are kept as stored: texture seams split them. `weld` joins them. Raises BadInput.
        """
        parts = read_glb(data)
        vertices_N3, faces_F3 = concatenated(parts)
        colours = [part.colours_N4 for part in parts if part.colours_N4 is not None]
        coloured = len(colours) == len(parts) and not any(part.texture for part in parts)
        return Mesh(
            vertices_N3.astype(np.float32), faces_F3.astype(np.int32), np.concatenate(colours) if coloured else None
        )


def bare_mesh(glb: bytes) -> Mesh:
    """The geometry of a GLB without its colours: no texture is decoded. Raises BadInput."""
    vertices_N3, faces_F3 = concatenated(read_glb(glb))
    return Mesh(vertices_N3.astype(np.float32), faces_F3.astype(np.int32))


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


def coarsened(mesh: Mesh, cell: float) -> Mesh:
    """The mesh with those vertices joined that share a cell of a lattice: few triangles of nearly the same outline."""
    lattice_N3 = np.round(mesh.vertices_N3 / np.float32(cell))
    joined = weld(Mesh(lattice_N3, mesh.faces_F3, mesh.colours_N4), digits=0)
    return Mesh(joined.vertices_N3 * np.float32(cell), joined.faces_F3, joined.colours_N4)


def canonical(mesh: Mesh) -> Mesh:
    """The mesh centred by its box, its longest side 1; it has an extent."""
    low_3, high_3 = mesh.vertices_N3.min(axis=0).astype(np.float64), mesh.vertices_N3.max(axis=0).astype(np.float64)
    placed_N3 = (mesh.vertices_N3 - (low_3 + high_3) / 2) / (high_3 - low_3).max()
    return Mesh(placed_N3.clip(-0.5, 0.5).astype(np.float32), mesh.faces_F3, mesh.colours_N4)


def opaque(colours_N3: FloatArray) -> ByteArray:
    """RGBA (N, 4) of colours in [0, 1]."""
    rgba_N4 = np.concatenate([colours_N3, np.ones((len(colours_N3), 1), np.float32)], axis=1)
    rounded: ByteArray = np.rint(rgba_N4 * 255).astype(np.uint8)
    return rounded


def face_areas(mesh: Mesh) -> npt.NDArray[np.float64]:
    """Area (F,) of each triangle."""
    corners_F33 = mesh.vertices_N3.astype(np.float64)[mesh.faces_F3]
    cross_F3 = np.cross(corners_F33[:, 1] - corners_F33[:, 0], corners_F33[:, 2] - corners_F33[:, 0])
    areas: npt.NDArray[np.float64] = np.linalg.norm(cross_F3, axis=1) / 2
    return areas


def vertex_normals(mesh: Mesh) -> npt.NDArray[np.float64]:
    """Area-weighted unit normals (N, 3)."""
    corners_F33 = mesh.vertices_N3.astype(np.float64)[mesh.faces_F3]
    cross_F3 = np.cross(corners_F33[:, 1] - corners_F33[:, 0], corners_F33[:, 2] - corners_F33[:, 0])
    corner = mesh.faces_F3.reshape(-1)
    count = len(mesh.vertices_N3)
    normals = np.stack([np.bincount(corner, np.repeat(cross_F3[:, axis], 3), count) for axis in range(3)], axis=1)
    unit: npt.NDArray[np.float64] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return unit


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

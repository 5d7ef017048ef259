"""The colour of any point of a surface: from textures, vertex colours or materials."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.geometry import ByteArray, Mesh
from models.meshfiles import Part, read_glb
from models.meshfiles.parts import concatenated

GREY = 200
"""Of parts without colour beside coloured ones."""


@dataclass(frozen=True)
class SurfaceColours:
    """Colours of the faces of a mesh, which are those of its parts one after the other."""

    mesh: Mesh
    parts: tuple[Part, ...]

    @staticmethod
    def of_mesh(mesh: Mesh) -> SurfaceColours | None:
        """Those of its vertices, or None."""
        if mesh.colours_N4 is None:
            return None
        part = Part(mesh.vertices_N3, mesh.faces_F3.astype(np.int64), colours_N4=mesh.colours_N4)
        return SurfaceColours(mesh, (part,))

    def at(self, face_K: npt.NDArray[np.int64], points_K3: npt.NDArray[np.float64]) -> ByteArray:
        """sRGB (K, 3) of points on faces."""
        weights_K3 = _barycentric(self.mesh.vertices_N3[self.mesh.faces_F3[face_K]].astype(np.float64), points_K3)
        rgb_K3 = np.full((len(face_K), 3), GREY, np.uint8)
        first = 0
        for part in self.parts:
            own_K = (face_K >= first) & (face_K < first + len(part.faces_F3))
            found_K4 = _points(part, face_K[own_K] - first, weights_K3[own_K]).vertex_colours()
            if found_K4 is not None:
                rgb_K3[own_K] = found_K4[:, :3]
            first += len(part.faces_F3)
        return rgb_K3


def read_coloured(glb: bytes) -> tuple[Mesh, SurfaceColours | None]:
    """The geometry of a GLB, every node in place, and its colours; None where no part states any. Raises BadInput."""
    parts = read_glb(glb)
    vertices_N3, faces_F3 = concatenated(parts)
    mesh = Mesh(vertices_N3.astype(np.float32), faces_F3.astype(np.int32))
    return mesh, SurfaceColours(mesh, tuple(parts)) if any(_states_colour(part) for part in parts) else None


def _states_colour(part: Part) -> bool:
    base = None if part.material is None else part.material.base_colour
    return part.texture is not None or part.colours_N4 is not None or base is not None


def _points(part: Part, face_K: npt.NDArray[np.int64], weights_K3: npt.NDArray[np.float64]) -> Part:
    """Points within faces of a part, as vertices of the same look."""
    corners_K3 = part.faces_F3[face_K]

    def mixed(values_NC: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = np.einsum("kc,kcd->kd", weights_K3, values_NC[corners_K3].astype(np.float64))
        return found

    uv_K2 = None if part.uv_N2 is None else mixed(part.uv_N2)
    colours_K4 = None if part.colours_N4 is None else np.rint(mixed(part.colours_N4)).astype(np.uint8)
    no_faces = np.empty((0, 3), np.int64)
    return replace(part, vertices_N3=mixed(part.vertices_N3), faces_F3=no_faces, uv_N2=uv_K2, colours_N4=colours_K4)


def _barycentric(corners_K33: npt.NDArray[np.float64], points_K3: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights (K, 3) of the corners, of points in the triangles' planes; degenerate triangles share evenly."""
    u_K3, v_K3 = corners_K33[:, 1] - corners_K33[:, 0], corners_K33[:, 2] - corners_K33[:, 0]
    w_K3 = points_K3 - corners_K33[:, 0]
    uu, uv, vv, wu, wv = (
        np.einsum("kd,kd->k", a, b) for a, b in ((u_K3, u_K3), (u_K3, v_K3), (v_K3, v_K3), (w_K3, u_K3), (w_K3, v_K3))
    )
    area_K = uu * vv - uv * uv
    flat_K = area_K <= 1e-20
    area_K = np.where(flat_K, 1, area_K)
    second_K, third_K = (vv * wu - uv * wv) / area_K, (uu * wv - uv * wu) / area_K
    weights_K3 = np.stack([1 - second_K - third_K, second_K, third_K], axis=1)
    weights_K3[flat_K] = 1 / 3
    clipped = weights_K3.clip(0, 1)
    shared: npt.NDArray[np.float64] = clipped / clipped.sum(axis=1, keepdims=True)
    return shared

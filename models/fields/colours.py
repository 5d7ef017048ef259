"""The colour of any point of a surface: from textures, vertex colours or materials."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.geometry import ByteArray, Mesh
from models.meshfiles import concatenated, read_glb
from models.meshfiles.colours import linear_from_srgb, srgb_from_linear
from models.meshfiles.parts import Part

GREY = 160
"""Of parts without colour beside coloured ones."""
Indices = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


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
        return SurfaceColours(
            mesh, (Part(mesh.vertices_N3, mesh.faces_F3.astype(np.int64), colours_N4=mesh.colours_N4),)
        )

    def at(self, face_K: Indices, points_K3: Doubles) -> ByteArray:
        """RGB (K, 3) of points on faces."""
        weights_K3 = _barycentric(self.mesh.vertices_N3[self.mesh.faces_F3[face_K]].astype(np.float64), points_K3)
        rgb_K3 = np.empty((len(face_K), 3), np.uint8)
        first = 0
        for part in self.parts:
            own_K = (face_K >= first) & (face_K < first + len(part.faces_F3))
            rgb_K3[own_K] = _colours_within(part, face_K[own_K] - first, weights_K3[own_K])
            first += len(part.faces_F3)
        return rgb_K3


def read_coloured(glb: bytes) -> tuple[Mesh, SurfaceColours | None]:
    """The geometry of a GLB, every node in place, and its colours; None where no part has any. Raises BadInput."""
    parts = read_glb(glb)
    vertices_N3, faces_F3 = concatenated(parts)
    mesh = Mesh(vertices_N3.astype(np.float32), faces_F3.astype(np.int32))
    if not any(map(_is_coloured, parts)):
        return mesh, None
    return mesh, SurfaceColours(mesh, tuple(part if _is_coloured(part) else _grey(part) for part in parts))


def _is_coloured(part: Part) -> bool:
    base = None if part.material is None else part.material.base_colour
    return part.texture is not None or part.colours_N4 is not None or base is not None


def _grey(part: Part) -> Part:
    return replace(part, colours_N4=np.full((len(part.vertices_N3), 4), GREY, np.uint8))


def _colours_within(part: Part, face_K: Indices, weights_K3: Doubles) -> ByteArray:
    """sRGB (K, 3) of points within faces: texture, vertex colours and the material's multiply, as glTF has it."""
    corners_K3 = part.faces_F3[face_K]
    linear_K4 = np.ones((len(face_K), 4))
    if part.texture is not None and part.uv_N2 is not None:
        uv_K2 = np.einsum("kc,kcd->kd", weights_K3, part.uv_N2[corners_K3])
        linear_K4 *= linear_from_srgb(part.texture.sampled(uv_K2) / 255)
    if part.colours_N4 is not None:
        corners_K34 = linear_from_srgb(part.colours_N4[corners_K3] / 255)
        linear_K4 *= np.einsum("kc,kcd->kd", weights_K3, corners_K34)
    if part.material is not None and part.material.base_colour is not None:
        linear_K4 *= part.material.base_colour
    rgb_K3: ByteArray = srgb_from_linear(linear_K4)[:, :3]
    return rgb_K3


def _barycentric(corners_K33: Doubles, points_K3: Doubles) -> Doubles:
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
    shared: Doubles = clipped / clipped.sum(axis=1, keepdims=True)
    return shared

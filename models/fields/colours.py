"""The colour of any point of a surface: from textures, vertex colours or materials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.geometry import ByteArray, FloatArray, Mesh, load_scene

GREY = 160.0
"""Of parts without colour beside coloured ones."""


@dataclass(frozen=True)
class Texture:
    """rgb_HW3: float32, 0 to 255, row 0 at v = 1. corners_F32: texture coordinates (u, v) of the faces' corners."""

    rgb_HW3: FloatArray
    corners_F32: FloatArray

    def at(self, face_K: npt.NDArray[np.int64], weights_K3: npt.NDArray[np.float64]) -> FloatArray:
        """Colours (K, 3) of points within faces, repeated beyond the image's border."""
        uv_K2 = np.einsum("kc,kcd->kd", weights_K3, self.corners_F32[face_K])
        height, width, _ = self.rgb_HW3.shape
        column_K = np.floor(uv_K2[:, 0] * width).astype(np.int64) % width
        row_K = np.floor((1 - uv_K2[:, 1]) * height).astype(np.int64) % height
        found: FloatArray = self.rgb_HW3[row_K, column_K]
        return found


@dataclass(frozen=True)
class Part:
    """F faces of one look. corners_F33: colours of their corners, 0 to 255, multiplied by the texture's."""

    corners_F33: FloatArray
    texture: Texture | None = None

    def at(self, face_K: npt.NDArray[np.int64], weights_K3: npt.NDArray[np.float64]) -> FloatArray:
        """Colours (K, 3), 0 to 255, of points within faces."""
        rgb_K3: FloatArray = np.einsum("kc,kcd->kd", weights_K3, self.corners_F33[face_K])
        if self.texture is not None:
            rgb_K3 = (rgb_K3 / 255 * self.texture.at(face_K, weights_K3)).astype(np.float32)
        return rgb_K3


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
        return SurfaceColours(mesh, (Part(mesh.colours_N4[mesh.faces_F3, :3].astype(np.float32)),))

    def at(self, face_K: npt.NDArray[np.int64], points_K3: npt.NDArray[np.float64]) -> ByteArray:
        """RGB (K, 3) of points on faces."""
        weights_K3 = _barycentric(self.mesh.vertices_N3[self.mesh.faces_F3[face_K]].astype(np.float64), points_K3)
        rgb_K3 = np.empty((len(face_K), 3), np.float32)
        first = 0
        for part in self.parts:
            own_K = (face_K >= first) & (face_K < first + len(part.corners_F33))
            rgb_K3[own_K] = part.at(face_K[own_K] - first, weights_K3[own_K])
            first += len(part.corners_F33)
        return np.rint(rgb_K3).clip(0, 255).astype(np.uint8)


def read_coloured(glb: bytes) -> tuple[Mesh, SurfaceColours | None]:
    """The geometry of a GLB, every node in place, and its colours; None where no part has any. Raises BadInput."""
    vertices, faces, parts, coloured, count = [], [], [], False, 0
    for geometry, placed_N3 in _geometries(glb):
        part = _part(geometry)
        coloured |= part is not None
        parts.append(part or Part(np.full((len(geometry.faces), 3, 3), GREY, np.float32)))
        vertices.append(np.asarray(placed_N3, np.float32))
        faces.append(np.asarray(geometry.faces, np.int32) + count)
        count += len(placed_N3)
    if not parts:
        raise BadInput("the GLB holds no triangles")
    mesh = Mesh(np.concatenate(vertices), np.concatenate(faces))
    return mesh, SurfaceColours(mesh, tuple(parts)) if coloured else None


def _geometries(glb: bytes) -> Iterator[tuple[Any, npt.NDArray[np.float64]]]:
    """Each triangle mesh of the scene, and its vertices in the world."""
    import trimesh

    scene = load_scene(glb, "glb")
    for node in sorted(scene.graph.nodes_geometry):
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            yield geometry, trimesh.transform_points(geometry.vertices, transform)


def _part(geometry: Any) -> Part | None:
    """What a mesh of trimesh looks like; None without colours."""
    faces_F3, visual = np.asarray(geometry.faces), geometry.visual
    if visual.kind == "vertex":
        return Part(np.asarray(visual.vertex_colors, np.float32)[faces_F3, :3])
    if visual.kind == "face":
        return Part(np.repeat(np.asarray(visual.face_colors, np.float32)[:, None, :3], 3, axis=1))
    if visual.kind != "texture":
        return None
    material = visual.material.to_pbr() if hasattr(visual.material, "to_pbr") else visual.material
    image = material.baseColorTexture if visual.uv is not None else None
    factor = material.baseColorFactor
    if image is None and factor is None:
        return None
    tint_3 = np.full(3, 255.0) if factor is None else np.asarray(factor, np.float32)[:3]
    corners_F33 = np.broadcast_to(tint_3.astype(np.float32), (len(faces_F3), 3, 3))
    if image is None:
        return Part(corners_F33)
    rgb_HW3 = np.asarray(image.convert("RGB"), np.float32)
    return Part(corners_F33, Texture(rgb_HW3, np.asarray(visual.uv, np.float32)[faces_F3]))


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

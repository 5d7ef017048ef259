"""Any mesh file into the canonical frame: Y up, centred by its bounding box, longest side 1, textures kept.

normalise(MeshFile(Path("boot.obj").read_bytes(), "obj"), up_axis="z").glb
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles import MESH_TYPES, Limits, MeshFile, Part, concatenated, read, write_glb

__all__ = ["MESH_TYPES", "TO_Y_UP", "Limits", "MeshFile", "Normalised", "UpAxis", "normalise"]

UpAxis = Literal["x", "y", "z"]
Triple = tuple[float, float, float]

TO_Y_UP: dict[UpAxis, npt.NDArray[np.float64]] = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),  # -Y becomes the front, +Z
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
}
"""Rotations that turn an up axis into +Y."""


@dataclass(frozen=True)
class Normalised:
    """glb: the mesh in the canonical frame, equal bytes for equal inputs.

    colour: where its colours come from. watertight: every edge has two triangles once equal positions are joined.
    extents, centre: side lengths and middle (x, y, z) of its box in file units, after turning Y up.
    left_out: what the file has and the mesh lacks, in words: textures that are not there.
    """

    glb: bytes = field(repr=False)
    num_triangles: int
    colour: Literal["texture", "vertex", "material", "none"]
    watertight: bool
    extents: Triple
    centre: Triple
    left_out: tuple[str, ...] = ()


def normalise(mesh_file: MeshFile, *, up_axis: UpAxis = "y", limits: Limits | None = None) -> Normalised:
    """Raises BadInput for what is no triangle mesh (corrupt, empty, points or lines only), not finite or too large."""
    limits = limits or Limits()
    contents = read(mesh_file, limits)
    limits.check_triangles(contents.num_triangles)
    parts = [_sound(part) for part in contents.parts()]
    _check_textures(parts, limits)
    parts, extents, centre = _to_canonical(parts, TO_Y_UP[up_axis])
    return Normalised(
        glb=write_glb(parts),
        num_triangles=contents.num_triangles,
        colour=_colour(parts),
        watertight=_is_watertight(parts),
        extents=extents,
        centre=centre,
        left_out=contents.left_out,
    )


def _sound(part: Part) -> Part:
    """The part without the vertices that no triangle uses. Raises BadInput for indices and numbers that cannot be."""
    vertices_N3, faces_F3 = part.vertices_N3, part.faces_F3
    if faces_F3.min() < 0 or faces_F3.max() >= len(vertices_N3):
        raise BadInput(f"a triangle refers to vertex {int(faces_F3.max())}, there are {len(vertices_N3)}")
    used_N = np.zeros(len(vertices_N3), bool)
    used_N[faces_F3] = True
    if num_bad := int((~np.isfinite(vertices_N3[used_N]).all(axis=1)).sum()):
        raise BadInput(f"{num_bad} of {int(used_N.sum())} vertices are not finite (NaN or infinite)")
    if part.uv_N2 is not None and not np.isfinite(part.uv_N2[used_N]).all():
        raise BadInput("it has texture coordinates that are not finite (NaN or infinite)")
    if used_N.all():
        return part
    return replace(
        part,
        vertices_N3=vertices_N3[used_N],
        faces_F3=(np.cumsum(used_N) - 1)[faces_F3],
        uv_N2=None if part.uv_N2 is None else part.uv_N2[used_N],
        colours_N4=None if part.colours_N4 is None else part.colours_N4[used_N],
    )


def _check_textures(parts: list[Part], limits: Limits) -> None:
    textures = {texture.encoded: texture for part in parts if part.material for texture in part.material.textures}
    pixels = sum(width * height for width, height in (texture.size_px for texture in textures.values()))
    if pixels > limits.max_texture_pixels:
        raise BadInput(
            f"textures of {pixels} pixels are over the limit of {limits.max_texture_pixels} "
            f"({limits.block}.max_texture_pixels)"
        )


def _to_canonical(parts: list[Part], rotation_33: npt.NDArray[np.float64]) -> tuple[list[Part], Triple, Triple]:
    """The parts turned, centred and scaled; extents and centre before scaling."""
    turned = [np.asarray(part.vertices_N3, np.float64) @ rotation_33.T for part in parts]
    low = np.min([vertices.min(axis=0) for vertices in turned], axis=0)
    high = np.max([vertices.max(axis=0) for vertices in turned], axis=0)
    with np.errstate(over="ignore"):
        extents = high - low
    longest = float(extents.max())
    if not np.isfinite(longest):
        raise BadInput("the mesh is too large to measure: its extents overflow")
    if longest <= 0:
        raise BadInput("all its vertices lie in one point")
    scaled = [(vertices - (low + high) / 2) / longest for vertices in turned]
    parts = [replace(part, vertices_N3=vertices) for part, vertices in zip(parts, scaled, strict=True)]
    if sum(_area(part) for part in parts) <= 0:
        raise BadInput("its triangles have no area")
    return parts, _triple(extents), _triple((low + high) / 2)


def _area(part: Part) -> float:
    corners_F33 = part.vertices_N3[part.faces_F3]
    crossed_F3 = np.cross(corners_F33[:, 1] - corners_F33[:, 0], corners_F33[:, 2] - corners_F33[:, 0])
    return float(np.linalg.norm(crossed_F3, axis=1).sum() / 2)


def _triple(values_3: npt.NDArray[np.float64]) -> Triple:
    x, y, z = (float(value) for value in values_3)
    return x, y, z


def _colour(parts: list[Part]) -> Literal["texture", "vertex", "material", "none"]:
    if any(part.texture for part in parts):
        return "texture"
    if any(part.colours_N4 is not None for part in parts):
        return "vertex"
    if any(part.material and part.material.base_colour for part in parts):
        return "material"
    return "none"


def _is_watertight(parts: list[Part]) -> bool:
    points_N3, faces_F3 = concatenated(parts)
    _, joined = np.unique(np.round(points_N3, 6), axis=0, return_inverse=True)
    faces_F3 = joined.reshape(-1)[faces_F3]
    proper = (faces_F3 != np.roll(faces_F3, 1, axis=1)).all(axis=1)
    edges_E2 = np.sort(faces_F3[proper][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges_E2, axis=0, return_counts=True)
    return bool(len(counts) and (counts == 2).all())

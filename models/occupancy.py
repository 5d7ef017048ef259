"""Which cells of space lie inside a mesh, by the generalised winding number: holes and duplicated vertices are fine.

Jacobson et al. 2013, "Robust Inside-Outside Segmentation using Generalized Winding Numbers", in the fast evaluation of
Barill et al. 2018 (libigl).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import igl
import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.geometry import FloatArray, Mesh, weld

REACH = 1.0
"""Cells are looked at within [-REACH, REACH]^3 only, twice the canonical cube: runaway meshes stay affordable."""


@dataclass(frozen=True)
class Cells:
    """A block of the world's lattice of cubes of side 1 / resolution.

    origin_3: lattice index of the block's first cell. inside_XYZ: bool, whether the cell's centre lies inside. All
    cells outside the block are outside.
    """

    resolution: int
    origin_3: tuple[int, int, int]
    inside_XYZ: npt.NDArray[np.bool_]

    @property
    def volume(self) -> float:
        """Volume of the cells inside."""
        return float(self.inside_XYZ.sum()) / self.resolution**3


def occupied_cells(mesh: Mesh, resolution: int) -> Cells:
    """The cells inside the mesh, in the block that holds its box; `resolution` of them span the longest side, 1."""
    low, high = mesh.vertices_N3.min(axis=0), mesh.vertices_N3.max(axis=0)
    bound = int(REACH * resolution)
    first = np.floor(low * resolution).clip(-bound, bound).astype(int)
    last = np.ceil(high * resolution).clip(-bound, bound).astype(int)
    axes = [(np.arange(start, stop) + 0.5) / resolution for start, stop in zip(first, last, strict=True)]
    shape = tuple(len(axis) for axis in axes)
    inside = contains(mesh, _grid(axes)).reshape(shape)
    return Cells(resolution, (int(first[0]), int(first[1]), int(first[2])), inside)


def cells_iou(a: Cells, b: Cells) -> float:
    """Volume of the intersection over that of the union, over the joint box; 0 where both are empty."""
    if a.resolution != b.resolution:
        raise ValueError(f"cells of different lattices: {a.resolution} and {b.resolution} a unit")
    start = np.maximum(a.origin_3, b.origin_3)
    stop = np.minimum(np.add(a.origin_3, a.inside_XYZ.shape), np.add(b.origin_3, b.inside_XYZ.shape))
    common = 0
    if np.all(stop > start):
        common = int((_cut(a, start, stop) & _cut(b, start, stop)).sum())
    union = int(a.inside_XYZ.sum()) + int(b.inside_XYZ.sum()) - common
    return common / union if union else 0.0


def _cut(cells: Cells, start_3: npt.NDArray[np.int_], stop_3: npt.NDArray[np.int_]) -> npt.NDArray[np.bool_]:
    """The part of a block between two lattice indices that lie within it."""
    spans = zip(start_3 - cells.origin_3, stop_3 - cells.origin_3, strict=True)
    return cells.inside_XYZ[tuple(slice(*span) for span in spans)]


def contains(mesh: Mesh, points_N3: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether each point (N,) lies inside: the magnitude of its winding number is over a half.

    The magnitude, so that a mesh that is inside out as a whole is not empty. Raises BadInput for non-finite vertices.
    """
    if len(points_N3) == 0:
        return np.zeros(0, np.bool_)
    winding_N = igl.fast_winding_number(*_soup(mesh), np.ascontiguousarray(points_N3))
    inside: npt.NDArray[np.bool_] = np.abs(winding_N) > 0.5
    return inside


def truncated_sdf(mesh: Mesh, resolution: int, truncation: float) -> FloatArray:
    """Signed distance (R, R, R), negative inside, clipped to +-truncation, at the cell centres of [-.5, .5]^3."""
    axis = (np.arange(resolution) + 0.5) / resolution - 0.5
    unsigned = igl.SignedDistanceType.SIGNED_DISTANCE_TYPE_UNSIGNED
    distance_N, *_ = igl.signed_distance(_grid([axis] * 3), *_soup(mesh), unsigned, -truncation, truncation)
    distance_N = np.nan_to_num(distance_N, nan=truncation, posinf=truncation).clip(0, truncation)
    inside_N = np.zeros(resolution**3, np.bool_)
    low, high = mesh.vertices_N3.min(axis=0), mesh.vertices_N3.max(axis=0)
    grid_N3 = _grid([axis] * 3)
    boxed_N = np.all((grid_N3 >= low) & (grid_N3 <= high), axis=1)
    inside_N[boxed_N] = contains(mesh, grid_N3[boxed_N])
    sdf: FloatArray = np.where(inside_N, -distance_N, distance_N).astype(np.float32)
    return sdf.reshape(resolution, resolution, resolution)


def _grid(axes: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """All points (N, 3) of the product of three axes, the last varying fastest."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def _soup(mesh: Mesh) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if not np.isfinite(mesh.vertices_N3).all():
        raise BadInput("the mesh has vertices that are not finite")
    welded = weld(mesh)
    return welded.vertices_N3.astype(np.float64), welded.faces_F3.astype(np.int64)

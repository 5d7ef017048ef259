"""Triangles of flat polygons, hollow corners included, and of strips."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.parts import IntArray

FloatArray = npt.NDArray[np.floating[Any]]


MOST_CORNERS = 10_000
"""Of a polygon that is not convex. Cutting one takes seconds at this size, and grows with its square."""


def cut(lengths_P: IntArray, vertices_C: IntArray, positions_N3: FloatArray) -> tuple[IntArray, IntArray]:
    """Polygons of any numbers of corners: triangles (F, 3) over all C corners, in order, and the polygon (F,) of each.

    lengths_P: how many of the corners belong to each polygon; of fewer than three nothing is made.
    vertices_C: the vertex at each corner. All triangles of a polygon are turned as it is.
    """
    starts_P = np.cumsum(lengths_P) - lengths_P
    corners, polygons = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)]
    for length in np.unique(lengths_P[lengths_P > 2]):
        chosen = np.flatnonzero(lengths_P == length)
        faces_QT3 = _triangles(positions_N3[vertices_C[starts_P[chosen][:, None] + np.arange(length)]])
        corners.append((starts_P[chosen][:, None, None] + faces_QT3).reshape(-1, 3))
        polygons.append(np.repeat(chosen, length - 2))
    polygons_F = np.concatenate(polygons)
    order = np.argsort(polygons_F, kind="stable")
    return np.concatenate(corners)[order], polygons_F[order]


def strip_triangles(indices: IntArray) -> IntArray:
    """Faces (F, 3) of a strip: every second one is turned; those that only join two strips are left out."""
    faces_F3 = np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    faces_F3[1::2] = faces_F3[1::2, [0, 2, 1]]
    proper_F3: IntArray = faces_F3[(faces_F3 != np.roll(faces_F3, 1, axis=1)).all(axis=1)]
    return proper_F3


def _triangles(corners_PK3: FloatArray) -> IntArray:
    """(P, K - 2, 3) over each polygon's corners: a fan for a convex one; others lose one ear after another."""
    num_polygons, num_corners = corners_PK3.shape[:2]
    fan = np.stack([np.zeros(num_corners - 2), np.arange(1, num_corners - 1), np.arange(2, num_corners)], axis=1)
    faces_PT3 = np.tile(fan.astype(np.int64), (num_polygons, 1, 1))
    if num_corners > 3:
        flat_PK2 = _flattened(np.asarray(corners_PK3, np.float64))
        hollow_P = ~_are_convex(flat_PK2)
        if num_corners > MOST_CORNERS and hollow_P.any():
            raise BadInput(
                f"a face has {num_corners} corners and is not convex: cut it into triangles where it is made"
            )
        for polygon in np.flatnonzero(hollow_P):
            faces_PT3[polygon] = _without_ears(flat_PK2[polygon])
    return faces_PT3


def _flattened(corners_PK3: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Corners (P, K, 2) in each polygon's plane, counter-clockwise around its (Newell) normal."""
    following_PK3 = np.roll(corners_PK3, -1, axis=1)
    normals_P3 = np.cross(corners_PK3 - corners_PK3[:, :1], following_PK3 - corners_PK3[:, :1]).sum(axis=1)
    normals_P3 /= np.maximum(np.linalg.norm(normals_P3, axis=1, keepdims=True), 1e-300)
    least = np.abs(normals_P3).argmin(axis=1)
    across_P3 = np.cross(np.eye(3)[least], normals_P3)
    across_P3 /= np.maximum(np.linalg.norm(across_P3, axis=1, keepdims=True), 1e-300)
    along_P3 = np.cross(normals_P3, across_P3)
    return np.stack(
        [np.einsum("pkd,pd->pk", corners_PK3, across_P3), np.einsum("pkd,pd->pk", corners_PK3, along_P3)], axis=2
    )


def _are_convex(flat_PK2: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether no corner turns back."""
    sides_PK2 = np.roll(flat_PK2, -1, axis=1) - flat_PK2
    turns_PK = _cross(np.roll(sides_PK2, 1, axis=1), sides_PK2)
    size_P1 = np.ptp(flat_PK2, axis=1).max(axis=1, keepdims=True)
    convex: npt.NDArray[np.bool_] = (turns_PK >= -1e-9 * size_P1**2).all(axis=1)
    return convex


def _without_ears(corners_K2: npt.NDArray[np.float64]) -> IntArray:
    """Ear clipping: of all corners that stick out and hold no other corner, the one with the widest angle goes first.

    Where no such corner is left (the polygon crosses itself), the corner that turns in least goes.
    """
    left = list(range(len(corners_K2)))
    faces = []
    while len(left) > 3:
        ring_K2 = corners_K2[left]
        before_K2, after_K2 = np.roll(ring_K2, 1, axis=0), np.roll(ring_K2, -1, axis=0)
        turns_K = _cross(ring_K2 - before_K2, after_K2 - ring_K2)
        lengths_K = np.linalg.norm(ring_K2 - before_K2, axis=1) * np.linalg.norm(after_K2 - ring_K2, axis=1)
        sharpness_K = turns_K / np.maximum(lengths_K, 1e-300)
        for corner in np.argsort(-sharpness_K, kind="stable"):
            if turns_K[corner] <= 0 or _is_ear(ring_K2, before_K2[corner], ring_K2[corner], after_K2[corner]):
                break
        faces.append([left[corner - 1], left[corner], left[(corner + 1) % len(left)]])
        del left[corner]
    return np.array([*faces, left], np.int64)


def _is_ear(
    ring_K2: npt.NDArray[np.float64],
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    c: npt.NDArray[np.float64],
) -> bool:
    """Whether no corner lies in the triangle; corners at the places of a, b and c aside."""
    inside_K = (_cross(b - a, ring_K2 - a) >= 0) & (_cross(c - b, ring_K2 - b) >= 0) & (_cross(a - c, ring_K2 - c) >= 0)
    for corner in (a, b, c):
        inside_K &= (ring_K2 != corner).any(axis=1)
    return not inside_K.any()


def _cross(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    crossed: npt.NDArray[np.float64] = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]
    return crossed

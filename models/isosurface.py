"""Closed meshes of a volume's zero level, by marching cubes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.errors import EmptyOutput
from models.geometry import FloatArray, IntArray, Mesh
from models.topology import components, face_volumes

FLOOR = 1e-3
"""Values are kept this far from 0, as a share of the spacing: the level never passes through a lattice point."""


def zero_level(volume: FloatArray, spacing: float) -> tuple[npt.NDArray[np.float64], IntArray]:
    """Vertices (N, 3) in lattice indices and faces of the level 0, closed and counter-clockwise from outside.

    volume: positive inside; its outermost lattice points must lie outside. spacing: by how much the values differ from
    one lattice point to the next, near the surface. Raises EmptyOutput when nothing lies inside.
    """
    from skimage.measure import marching_cubes

    inside = volume > 0
    if not inside.any():
        raise EmptyOutput("nothing is left of the volume: the silhouettes share no point, or the object is too thin")
    start, stop = _bounds(inside)
    block = np.ascontiguousarray(volume[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))])
    floor = np.float32(FLOOR * spacing)
    block = np.where(block > 0, np.maximum(block, floor), np.minimum(block, -floor))
    vertices, faces, _, _ = marching_cubes(block, 0.0)
    outward_F3 = np.ascontiguousarray(faces[:, ::-1], np.int32)  # skimage winds them for arrays in (z, y, x) order
    return vertices + start, outward_F3


def main_components(mesh: Mesh, min_share: float) -> Mesh:
    """The pieces whose volume is at least min_share of the largest one's. Enclosed bubbles (negative volume) go."""
    piece_N = components(mesh)
    first_corner_F = mesh.faces_F3[:, 0]
    volumes = np.bincount(piece_N[first_corner_F], face_volumes(mesh))
    kept_N = (volumes >= max(min_share * volumes.max(), 1e-12))[piece_N]
    if not kept_N.any():
        raise EmptyOutput("no piece of the hull encloses a volume")
    renumbered_N = np.cumsum(kept_N, dtype=np.int32) - 1
    return Mesh(mesh.vertices_N3[kept_N], renumbered_N[mesh.faces_F3[kept_N[first_corner_F]]])


def _bounds(inside: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The box of the inside, and one lattice point more on each side (which the lattice's own margin provides)."""
    spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    start = np.array([span[0] - 1 for span in spans]).clip(0)
    return start, np.array([span[-1] + 2 for span in spans])

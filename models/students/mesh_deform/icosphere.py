"""Icospheres: 12 -> 42 -> 162 -> 642 -> 2,562 vertices, each level the midpoint subdivision of the one before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVELS = (2, 3, 4)
"""The levels of the student: 162, 642 and 2,562 vertices."""


@dataclass(frozen=True)
class Sphere:
    """A closed triangulation of the unit sphere.

    vertices_N3: float32, unit length; the coarser level's vertices come first. faces_F3: int64, outward.
    parents_M2: int64, the two coarse vertices between which each of the last M vertices was put (the edges of the
    coarser level).
    """

    vertices_N3: npt.NDArray[np.float32]
    faces_F3: npt.NDArray[np.int64]
    parents_M2: npt.NDArray[np.int64]


def icosphere(level: int) -> Sphere:
    """Level 0 is the icosahedron; level n has 10 x 4^n + 2 vertices."""
    sphere = _icosahedron()
    for _ in range(level):
        sphere = _subdivide(sphere)
    return sphere


def edges(faces_F3: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The undirected edges (E, 2), sorted, each once."""
    both = np.concatenate([faces_F3[:, [0, 1]], faces_F3[:, [1, 2]], faces_F3[:, [2, 0]]])
    return np.unique(np.sort(both, axis=1), axis=0)


def neighbours(faces_F3: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The neighbours (N, 6) of each vertex; -1 in the sixth place of the twelve vertices that have five."""
    pairs = edges(faces_F3)
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    degree = np.bincount(pairs[:, 0])
    table = np.full((len(degree), 6), -1, np.int64)
    place = np.arange(len(pairs)) - np.repeat(np.cumsum(degree) - degree, degree)
    table[pairs[:, 0], place] = pairs[:, 1]
    return table


def _subdivide(sphere: Sphere) -> Sphere:
    parents = edges(sphere.faces_F3)
    middle = sphere.vertices_N3[parents].astype(np.float64).mean(axis=1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    vertices = np.concatenate([sphere.vertices_N3, middle.astype(np.float32)])
    number = {(int(a), int(b)): len(sphere.vertices_N3) + i for i, (a, b) in enumerate(parents)}
    faces = []
    for a, b, c in sphere.faces_F3.tolist():
        ab, bc, ca = (number[min(pair), max(pair)] for pair in ((a, b), (b, c), (c, a)))
        faces += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return Sphere(vertices, np.array(faces, np.int64), parents)


def _icosahedron() -> Sphere:
    golden = (1 + 5**0.5) / 2
    rectangles = [
        [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0)],
        [(0, -1, golden), (0, 1, golden), (0, -1, -golden), (0, 1, -golden)],
        [(golden, 0, -1), (golden, 0, 1), (-golden, 0, -1), (-golden, 0, 1)],
    ]
    vertices = np.array(rectangles).reshape(12, 3)
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    fans = [
        [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11)],
        [(1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6), (7, 1, 8)],
        [(3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9)],
        [(4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)],
    ]
    faces = np.array(fans, np.int64).reshape(20, 3)
    return Sphere(vertices.astype(np.float32), faces, np.empty((0, 2), np.int64))

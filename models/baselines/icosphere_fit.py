"""An icosphere fitted to the truth itself: about the ceiling of any network that deforms this icosphere.

The squared Chamfer of samples is descended with the preconditioned steps of Nicolet et al. 2021, "Large Steps in
Inverse Rendering of Geometry": smoothness lies in the steps, not in a penalty that would hold the fit back. The
topology never changes, so one sparse factorisation serves every item: about a second each, without autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from models.geometry import IntArray, Mesh, sample_surface

NUM_SAMPLES = 4_000
"""Of the fit and of the truth; those of the fit are drawn anew at each step."""
STAGES = ((60.0, 0.4), (3.0, 0.2))
"""(weight of the Laplacian, size of the first step) of each half of the steps: shape first, then detail."""
MOMENTUM, SECOND_MOMENT = 0.8, 0.99

Float64 = npt.NDArray[np.float64]


def fit_icosphere(truth: Mesh, *, num_steps: int, seed: int, subdivisions: int = 4) -> Mesh:
    """An icosphere (2,562 vertices at 4 subdivisions) deformed to the true surface, from the ellipsoid in its box.

    Deterministic. The fit may fold over itself where the truth is not a deformed sphere. Raises BadInput for a mesh
    without area.
    """
    rng = np.random.default_rng(seed)
    truth_tree = cKDTree(sample_surface(truth, NUM_SAMPLES, rng)[0].astype(np.float64))
    low, high = truth_tree.mins, truth_tree.maxes
    sphere_V3, faces_F3 = _icosphere(subdivisions)
    vertices_V3 = (low + high) / 2 + sphere_V3 * np.maximum(high - low, 1e-3) / 2
    for (smoothness, step_size), steps in zip(STAGES, (num_steps - num_steps // 2, num_steps // 2), strict=True):
        preconditioner = _preconditioner(subdivisions, smoothness)
        vertices_V3 = _descend(vertices_V3, faces_F3, truth_tree, preconditioner, steps, step_size, rng)
    return Mesh(vertices_V3.astype(np.float32), faces_F3)


@dataclass(frozen=True)
class Preconditioner:
    """M = I + smoothness x Laplacian (V, V), and the solution of M x = b."""

    matrix: Any
    solve: Callable[[Float64], Float64]


def _descend(
    vertices_V3: Float64,
    faces_F3: IntArray,
    truth_tree: cKDTree,
    preconditioner: Preconditioner,
    num_steps: int,
    step_size: float,
    rng: np.random.Generator,
) -> Float64:
    """Adam with one second moment for all vertices, on latent = M vertices; the step falls linearly to a tenth."""
    latent_V3 = preconditioner.matrix @ vertices_V3
    mean_V3, second = np.zeros_like(latent_V3), 0.0
    for step in range(1, num_steps + 1):
        gradient_V3 = preconditioner.solve(_chamfer_gradient(vertices_V3, faces_F3, truth_tree, rng))
        mean_V3 = MOMENTUM * mean_V3 + (1 - MOMENTUM) * gradient_V3
        second = SECOND_MOMENT * second + (1 - SECOND_MOMENT) * float(np.abs(gradient_V3).max()) ** 2
        unbiased_V3 = mean_V3 / (1 - MOMENTUM**step)
        spread = np.sqrt(second / (1 - SECOND_MOMENT**step))
        latent_V3 = latent_V3 - step_size * (1 - 0.9 * step / num_steps) * unbiased_V3 / max(spread, 1e-30)
        vertices_V3 = preconditioner.solve(latent_V3)
    return vertices_V3


def _chamfer_gradient(
    vertices_V3: Float64, faces_F3: IntArray, truth_tree: cKDTree, rng: np.random.Generator
) -> Float64:
    """Gradient (V, 3) of the squared Chamfer between fresh samples of the mesh and the true points."""
    face_S, weights_S3 = _sample_faces(vertices_V3[faces_F3], rng)
    corners_S3 = faces_F3[face_S]
    points_S3 = np.einsum("sc,scx->sx", weights_S3, vertices_V3[corners_S3])
    truth_T3 = truth_tree.data
    points_tree = cKDTree(points_S3, compact_nodes=False, balanced_tree=False)
    to_truth_S = np.asarray(truth_tree.query(points_S3, workers=1)[1])
    to_points_T = np.asarray(points_tree.query(truth_T3, workers=1)[1])
    gradient_S3 = 2 / len(points_S3) * (points_S3 - truth_T3[to_truth_S])
    gradient_S3 += _scatter(to_points_T, 2 / len(truth_T3) * (points_S3[to_points_T] - truth_T3), len(points_S3))
    spread_S33 = weights_S3[..., None] * gradient_S3[:, None]
    return _scatter(corners_S3.ravel(), spread_S33.reshape(-1, 3), len(vertices_V3))


def _sample_faces(corners_F33: Float64, rng: np.random.Generator) -> tuple[npt.NDArray[np.intp], Float64]:
    """Faces (S,) and barycentric weights (S, 3) of stratified area-uniform samples."""
    cross_F3 = np.cross(corners_F33[:, 1] - corners_F33[:, 0], corners_F33[:, 2] - corners_F33[:, 0])
    cumulated_F = np.linalg.norm(cross_F3, axis=1).cumsum()
    place_S = (np.arange(NUM_SAMPLES) + rng.random(NUM_SAMPLES)) / NUM_SAMPLES * cumulated_F[-1]
    face_S = np.searchsorted(cumulated_F, place_S, side="right").clip(0, len(cumulated_F) - 1)
    root_S, share_S = np.sqrt(rng.random(NUM_SAMPLES)), rng.random(NUM_SAMPLES)
    return face_S, np.stack([1 - root_S, root_S * (1 - share_S), root_S * share_S], axis=1)


def _scatter(index_N: npt.NDArray[np.integer[Any]], values_N3: Float64, size: int) -> Float64:
    """Sums (size, 3) of the rows that share an index."""
    return np.stack([np.bincount(index_N, values_N3[:, axis], size) for axis in range(3)], axis=1)


@lru_cache(maxsize=4)
def _preconditioner(subdivisions: int, smoothness: float) -> Preconditioner:
    vertices_V3, faces_F3 = _icosphere(subdivisions)
    size = len(vertices_V3)
    start_E, stop_E = np.concatenate([faces_F3[:, [0, 1]], faces_F3[:, [1, 2]], faces_F3[:, [2, 0]]]).T
    adjacency = sparse.coo_array((np.ones(len(start_E)), (start_E, stop_E)), (size, size)).tocsc()
    degrees = sparse.diags_array(np.bincount(start_E).astype(np.float64), format="csc")
    matrix = (sparse.eye_array(size, format="csc") + smoothness * (degrees - adjacency)).tocsc()
    return Preconditioner(matrix, splu(matrix).solve)


@lru_cache(maxsize=4)
def _icosphere(subdivisions: int) -> tuple[Float64, IntArray]:
    """Unit vertices (V, 3) and outward faces."""
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=1.0)
    return np.asarray(sphere.vertices, np.float64), np.asarray(sphere.faces, np.int32)

import numpy as np
import pytest
from scipy.spatial import cKDTree

from models.metrics.points import Matches, match


def matches(predicted_N3: np.ndarray, truth_M3: np.ndarray) -> Matches:
    return match(cKDTree(predicted_N3), cKDTree(truth_M3))


def cloud(num_points: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((num_points, 3))


def sphere_points(num_points: int, seed: int, radius: float = 0.5) -> np.ndarray:
    directions_N3 = np.random.default_rng(seed).standard_normal((num_points, 3))
    return radius * directions_N3 / np.linalg.norm(directions_N3, axis=1, keepdims=True)


def grid_in_plane(z: float) -> np.ndarray:
    x, y = np.meshgrid(np.arange(20) / 20, np.arange(20) / 20)
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], axis=1)


def test_identical_points_have_no_distance_and_a_full_f_score() -> None:
    same = matches(cloud(500, 0), cloud(500, 0))
    assert same.chamfer == 0
    assert same.fscore(1e-9) == 1


def test_chamfer_is_symmetric_and_swaps_accuracy_with_completeness() -> None:
    there, back = matches(cloud(300, 0), cloud(500, 1)), matches(cloud(500, 1), cloud(300, 0))
    assert there.chamfer == back.chamfer
    assert (there.accuracy, there.completeness) == (back.completeness, back.accuracy)
    assert there.fscore(0.05) == back.fscore(0.05)


def test_the_order_of_points_does_not_matter() -> None:
    predicted, truth = cloud(400, 0), cloud(400, 1)
    shuffled = matches(np.random.default_rng(2).permutation(predicted), np.random.default_rng(3).permutation(truth))
    assert shuffled.chamfer == pytest.approx(matches(predicted, truth).chamfer, abs=1e-12)
    assert shuffled.fscore(0.05) == matches(predicted, truth).fscore(0.05)


def test_chamfer_is_unsquared() -> None:
    shifted = matches(grid_in_plane(0.0), grid_in_plane(0.02))
    assert shifted.accuracy == shifted.completeness == shifted.chamfer == pytest.approx(0.02)


def test_the_f_score_counts_distances_below_its_threshold() -> None:
    shifted = matches(grid_in_plane(0.0), grid_in_plane(0.02))
    assert shifted.fscore(0.0199) == 0
    assert shifted.fscore(0.0201) == 1


def test_a_point_at_the_threshold_is_not_closer() -> None:
    one, both = np.zeros((1, 3)), np.array([[0, 0, 0], [0.5, 0, 0]])
    assert matches(both, one).fscore(0.5) == matches(one, both).fscore(0.5) == pytest.approx(2 * 0.5 / 1.5)


def test_the_f_score_is_the_harmonic_mean_of_precision_and_recall() -> None:
    truth = grid_in_plane(0.0)
    half = matches(np.concatenate([truth[:200], grid_in_plane(9.0)[:200]]), truth[:200])
    assert half.fscore(0.01) == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_concentric_spheres_are_apart_by_the_difference_of_their_radii() -> None:
    inner_N3 = sphere_points(20_000, 0, radius=0.4)
    apart = matches(inner_N3, inner_N3 * 1.25)
    assert apart.accuracy == pytest.approx(0.1, rel=2e-3)
    assert apart.completeness == pytest.approx(0.1, rel=2e-3)


def test_two_samplings_of_a_perfect_sphere_score_only_a_quarter_at_half_a_percent() -> None:
    """10,000 points on r = .5: the sampling floor of F@.005, about 1 - exp(-1/4)."""
    assert matches(sphere_points(10_000, 0), sphere_points(10_000, 1)).fscore(0.005) == pytest.approx(0.226, abs=0.01)


def test_normal_consistency_ignores_orientation() -> None:
    points = grid_in_plane(0.0)
    up = np.tile(np.array([0, 0, 1], np.float32), (len(points), 1))
    tilted = np.tile(np.array([0, 0.6, 0.8], np.float32), (len(points), 1))
    same = matches(points, points)
    assert same.normal_consistency(up, -up) == 1
    assert same.normal_consistency(up, tilted) == pytest.approx(0.8)


def test_normal_consistency_is_the_mean_of_both_ways() -> None:
    points = grid_in_plane(0.0)
    up = np.tile(np.array([0, 0, 1], np.float32), (len(points), 1))
    tilted = np.tile(np.array([0, 0.6, 0.8], np.float32), (len(points), 1))
    far = points + np.array([9.0, 0, 0])
    truth, normals = np.concatenate([points, far]), np.concatenate([up, tilted])
    assert matches(points, truth).normal_consistency(up, normals) == pytest.approx((1 + 0.9) / 2)
    assert matches(truth, points).normal_consistency(normals, up) == pytest.approx((0.9 + 1) / 2)

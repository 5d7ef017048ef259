import numpy as np
import pytest
import trimesh

from models.errors import BadInput
from models.geometry import Mesh
from models.metrics import Protocol, Surface, compare


def sphere(radius: float, centre: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return Mesh((ball.vertices + centre).astype(np.float32), ball.faces.astype(np.int32))


def test_concentric_spheres_have_the_analytic_figures() -> None:
    figures = compare(sphere(0.4), Surface(sphere(0.5), Protocol()))
    assert figures.accuracy == pytest.approx(0.1, abs=1.5e-3)
    assert figures.completeness == pytest.approx(0.1, abs=1.5e-3)
    assert figures.iou == pytest.approx(0.8**3, abs=0.01)
    assert figures.normal_consistency > 0.999
    assert figures.fscores == {0.01: 0, 0.02: 0}


def test_accuracy_is_the_predictions_distance_and_completeness_the_truths() -> None:
    far = trimesh.util.concatenate([trimesh.creation.icosphere(3, 0.2).apply_translation([x, 0, 0]) for x in (0, 2)])
    both = Mesh(far.vertices.astype(np.float32), far.faces.astype(np.int32))
    too_much = compare(both, Surface(sphere(0.2), Protocol(iou_resolution=8)))
    too_little = compare(sphere(0.2), Surface(both, Protocol(iou_resolution=8)))
    assert too_much.accuracy > 0.8 > 0.1 > too_much.completeness
    assert too_little.completeness > 0.8 > 0.1 > too_little.accuracy
    assert too_much.chamfer == pytest.approx((too_much.accuracy + too_much.completeness) / 2)


def test_a_shifted_sphere_is_half_the_shift_away() -> None:
    figures = compare(sphere(0.4, (0.08, 0, 0)), Surface(sphere(0.4), Protocol()))
    assert figures.chamfer == pytest.approx(0.04, abs=2e-3)


def test_the_truth_against_itself_is_the_sampling_floor_and_not_zero() -> None:
    truth = Surface(sphere(0.5), Protocol())
    floor = compare(truth.mesh, truth)
    assert 0.007 < floor.chamfer < 0.010
    assert floor.iou == 1
    assert compare(truth.mesh, truth) == floor


def test_another_seed_takes_other_samples() -> None:
    one, other = (Surface(sphere(0.5), Protocol(500, seed=seed)).points_N3 for seed in (0, 5))
    assert not np.array_equal(one, other)


def test_more_points_lower_the_floor() -> None:
    protocols = [Protocol(num_points=num_points, iou_resolution=8) for num_points in (500, 2_000, 8_000)]
    floors = [compare(sphere(0.5), Surface(sphere(0.5), protocol)).chamfer for protocol in protocols]
    assert floors[0] > 1.8 * floors[1] > 3.2 * floors[2]


def test_figures_are_flat_rounded_and_name_the_second_threshold() -> None:
    figures = compare(sphere(0.45), Surface(sphere(0.5), Protocol(num_points=500, iou_resolution=8)))
    flat = figures.to_json()
    assert set(flat) == {
        "chamfer", "accuracy", "completeness", "fscore", "fscore_0.02", "normal_consistency", "iou"
    }  # fmt: skip
    assert flat["chamfer"] == round(figures.chamfer, 6) != figures.chamfer
    assert (flat["fscore"], flat["fscore_0.02"]) == (figures.fscores[0.01], figures.fscores[0.02])
    assert (flat["accuracy"], flat["completeness"]) == pytest.approx((figures.accuracy, figures.completeness), abs=1e-6)


def test_a_mesh_without_area_is_named() -> None:
    point = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    with pytest.raises(BadInput, match="no surface area"):
        compare(point, Surface(sphere(0.5), Protocol(num_points=100)))


def test_thresholds_must_ascend() -> None:
    with pytest.raises(ValueError, match="ascending"):
        Protocol(thresholds=(0.02, 0.01))

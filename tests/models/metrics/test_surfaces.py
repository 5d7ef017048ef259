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


def test_a_shifted_sphere_is_half_the_shift_away() -> None:
    figures = compare(sphere(0.4, (0.08, 0, 0)), Surface(sphere(0.4), Protocol()))
    assert figures.chamfer == pytest.approx(0.04, abs=2e-3)


def test_the_truth_against_itself_is_the_sampling_floor_and_not_zero() -> None:
    truth = Surface(sphere(0.5), Protocol())
    floor = compare(truth.mesh, truth)
    assert 0.007 < floor.chamfer < 0.010
    assert floor.iou == 1
    assert compare(truth.mesh, truth) == floor


def test_more_points_lower_the_floor() -> None:
    protocols = [Protocol(num_points=num_points, iou_resolution=8) for num_points in (500, 2_000, 8_000)]
    floors = [compare(sphere(0.5), Surface(sphere(0.5), protocol)).chamfer for protocol in protocols]
    assert floors[0] > 1.8 * floors[1] > 3.2 * floors[2]


def test_figures_are_flat_rounded_and_name_the_second_threshold() -> None:
    flat = compare(sphere(0.45), Surface(sphere(0.5), Protocol(num_points=500, iou_resolution=8))).to_json()
    assert set(flat) == {
        "chamfer", "accuracy", "completeness", "fscore", "fscore_0.02", "normal_consistency", "iou"
    }  # fmt: skip
    assert all(value == round(value, 6) for value in flat.values())


def test_a_mesh_without_area_is_named() -> None:
    point = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    with pytest.raises(BadInput, match="no surface area"):
        compare(point, Surface(sphere(0.5), Protocol(num_points=100)))


def test_thresholds_must_ascend() -> None:
    with pytest.raises(ValueError, match="ascending"):
        Protocol(thresholds=(0.02, 0.01))

import numpy as np
import pytest

from models.errors import EmptyOutput
from models.fields import HALF_SIDE
from models.fields.extraction import Lattice, refined, surface, whole_cube
from models.topology import is_watertight, volume


def ball(radius, centre=(0.0, 0.0, 0.0)):
    return lambda points_N3: np.linalg.norm(points_N3 - np.float32(centre), axis=1) - np.float32(radius)


def evaluated(evaluate, cells=24):
    lattice = whole_cube(cells)
    everywhere = np.ones_like(lattice.values_XYZ, bool)
    values = evaluate(lattice.points(everywhere)).reshape(lattice.values_XYZ.shape)
    return Lattice(values, lattice.origin_3, lattice.step)


def test_the_surface_of_a_ball_lies_on_it_closed_and_outward():
    mesh = surface(evaluated(ball(0.4, (0.05, 0, -0.05))))
    assert np.linalg.norm(mesh.vertices_N3 - [0.05, 0, -0.05], axis=1) == pytest.approx(0.4, abs=0.003)
    assert is_watertight(mesh)
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.02)


def test_what_reaches_the_cubes_border_is_closed_there():
    mesh = surface(evaluated(ball(0.7)))
    assert is_watertight(mesh) and volume(mesh) > 0
    assert np.abs(mesh.vertices_N3).max() <= HALF_SIDE + 2 * HALF_SIDE / 24


def test_refinement_gives_the_values_that_evaluating_everywhere_gives_near_the_surface():
    counted = []

    def evaluate(points_N3):
        counted.append(len(points_N3))
        return ball(0.4)(points_N3)

    finer = refined(evaluated(ball(0.4)), evaluate, max_points=20_000, finest=2 * HALF_SIDE / 48)
    assert finer.step == pytest.approx(2 * HALF_SIDE / 48)
    points = finer.points(np.ones_like(finer.values_XYZ, bool))
    exact = ball(0.4)(points).reshape(finer.values_XYZ.shape)
    near = np.abs(exact) < 0.6 * finer.step
    assert finer.values_XYZ[near] == pytest.approx(exact[near], abs=1e-6)
    assert sum(counted) < finer.values_XYZ.size / 3


def test_a_small_object_gets_a_finer_lattice_than_a_large_one():
    steps = [refined(evaluated(ball(r)), ball(r), max_points=8_000, finest=0.001).step for r in (0.05, 0.4)]
    assert steps[0] < steps[1] / 2


def test_a_sheet_thinner_than_the_lattice_is_kept():
    def sheet(points_N3):
        outside = np.abs(points_N3 - np.float32([0, 0.01, 0])) - np.float32([0.4, 0.004, 0.3])
        return np.linalg.norm(outside.clip(0), axis=1) + outside.max(axis=1).clip(max=0)

    coarse = evaluated(sheet, 27)
    assert coarse.values_XYZ.min() > 0
    mesh = surface(coarse)
    assert is_watertight(mesh)
    assert mesh.extents == pytest.approx([0.8, 0.02, 0.6], abs=0.06)


def test_a_field_without_a_surface_is_an_empty_output():
    with pytest.raises(EmptyOutput, match=r"no surface: no point is nearer to one than 0\.1"):
        surface(evaluated(lambda points_N3: np.full(len(points_N3), 0.1, np.float32)))

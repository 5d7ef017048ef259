"""Proportions and cameras of boxes and ellipsoids are known."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import EmptyOutput
from models.geometry import Mesh
from models.nominal_cameras import nominal_cameras, proportions, two_sides

SIDES = ("front", "left", "back", "right")


def boxes(*sizes: tuple[float, float]) -> np.ndarray:
    """Left, right, top, bottom of boxes of (width, height)."""
    return np.array([(10, 10 + width, 20, 20 + height) for width, height in sizes], float)


def test_level_views_tell_the_proportions_whatever_their_scale():
    found = proportions(("front", "left"), boxes((30, 60), (240, 120)), 0.0)
    np.testing.assert_allclose(found, [0.25, 0.5, 1.0])


def test_from_above_the_depth_adds_to_the_height():
    width, height, depth, angle = 0.4, 0.6, 1.0, np.radians(30)
    front = (width, np.hypot(height * np.cos(angle), depth * np.sin(angle)))
    left = (depth, np.hypot(height * np.cos(angle), width * np.sin(angle)))
    found = proportions(("front", "left"), boxes(front, left), 30.0)
    np.testing.assert_allclose(found, [width, height, depth])


def test_a_plate_is_not_seen_so_low_from_high_above():
    with pytest.raises(EmptyOutput, match="from 35 degrees above"):
        proportions(("front", "left"), boxes((100, 10), (100, 10)), 35.0)


@pytest.mark.parametrize(
    ("names", "enough"),
    [(("front", "left"), True), (SIDES, True), (("front", "back"), False), (("right",), False), (("ring_00",), False)],
)
def test_two_sides_are_two_directions_at_right_angles(names, enough):
    assert two_sides(names) is enough


def test_silhouettes_without_a_common_shape_are_an_empty_output():
    def carve(cameras: object) -> Mesh:
        raise EmptyOutput("nothing is left")

    alpha_VHW = np.zeros((2, 32, 32), np.uint8)
    alpha_VHW[:, 8:24, 8:24] = 255
    with pytest.raises(EmptyOutput, match="no common shape"):
        nominal_cameras(("front", "left"), alpha_VHW, carve)

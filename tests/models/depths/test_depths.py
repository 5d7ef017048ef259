from pathlib import Path

import numpy as np
import pytest

from models.crop import Square
from models.depths import RenderedDepth, depth_anything, rendered
from models.errors import Unavailable
from models.onnx import Machine

BLANK = np.zeros((224, 224, 4), np.uint8)


def test_rendered_depth_is_cut_like_the_colours():
    depth = np.zeros((256, 256), np.uint16)
    depth[100:150, 80:130] = 1234
    source = RenderedDepth(depth, Square(left=80, top=100, side=50))
    found = rendered.create(rendered.Params(size_px=10), Machine(Path())).estimate(BLANK, source)
    assert found.shape == (10, 10) and (found == 1234).all()


def test_a_photo_has_no_rendered_depth():
    assert rendered.create(rendered.Params(), Machine(Path())).estimate(BLANK, None) is None


def test_stretch_spans_the_object_and_leaves_the_background_zero():
    values = np.array([[1.0, 2.0], [3.0, 99.0]], np.float32)
    inside = np.array([[True, True], [True, False]])
    np.testing.assert_array_equal(depth_anything.stretch(values, inside), [[1, 32768], [65535, 0]])


def test_a_flat_object_is_all_near():
    found = depth_anything.stretch(np.ones((2, 2), np.float32), np.array([[True, False], [False, False]]))
    np.testing.assert_array_equal(found, [[65535, 0], [0, 0]])


def test_depth_anything_without_a_model_says_how_to_make_one():
    with pytest.raises(Unavailable, match="lostwax export-encoder depth_anything"):
        depth_anything.create(depth_anything.Params(), Machine(Path()))

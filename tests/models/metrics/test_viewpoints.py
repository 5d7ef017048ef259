import numpy as np
import pytest

from models.metrics.viewpoints import FRAME_PX, fits, framed


def rectangle(top: int, left: int, height: int, width: int, size_px: int = 90) -> np.ndarray:
    mask = np.zeros((size_px, size_px), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_a_frame_forgets_place_and_size_and_keeps_proportions():
    first, moved, grown = framed(
        np.stack([rectangle(10, 20, 20, 10), rectangle(60, 3, 20, 10), rectangle(5, 5, 80, 40)])
    )
    assert (first == moved).all()
    assert (first == grown).all()
    assert first.sum() == FRAME_PX * FRAME_PX / 2
    assert first[:, FRAME_PX // 4 : 3 * FRAME_PX // 4].all()


def test_an_empty_mask_is_an_empty_frame():
    assert not framed(np.zeros((1, 8, 8), bool)).any()


def test_a_candidate_fits_as_its_views_do_on_average():
    tall, wide, square = rectangle(0, 0, 80, 20), rectangle(0, 0, 20, 80), rectangle(0, 0, 40, 40)
    drawn = np.stack([tall, wide, square])
    shown = np.array([[0, 0], [0, 1], [2, 2]])
    cross, quarter = 1 / 7, 1 / 4  # what two bars across share, and a bar with the square
    assert fits(np.stack([tall, wide]), drawn, shown) == pytest.approx([(1 + cross) / 2, 1, quarter])
    assert fits(np.stack([wide, tall]), drawn, shown) == pytest.approx([(1 + cross) / 2, cross, quarter])

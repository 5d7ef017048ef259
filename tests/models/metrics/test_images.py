import numpy as np
import pytest

from models.metrics.images import MAX_PSNR_DB, brightness, masks, psnr_db


def flat(value: int, alpha: int = 255) -> np.ndarray:
    return np.dstack([np.full((8, 8, 3), value), np.full((8, 8), alpha)])[None].astype(np.uint8)


def test_a_constant_offset_has_its_psnr_and_ratio() -> None:
    assert psnr_db(flat(151), flat(100)) == pytest.approx(-20 * np.log10(0.2), abs=1e-4)
    assert psnr_db(flat(7), flat(7)) == MAX_PSNR_DB
    assert brightness(flat(51)) == pytest.approx(0.2)
    assert psnr_db(flat(0, 0), flat(255, 0)) is None
    assert brightness(flat(255, 0)) is None


def test_a_black_objects_missing_half_costs_as_much_as_a_white_ones() -> None:
    half = flat(0)
    half[:, :, 4:, 3] = 0
    white = half.copy()
    white[..., :3] = 255
    black_db, white_db = psnr_db(half, flat(0)), psnr_db(white, flat(255))
    assert black_db == white_db == pytest.approx(-10 * np.log10(0.5 * 0.25), abs=1e-4)


def test_what_is_half_covered_is_object() -> None:
    assert masks(flat(0, 128)).all()
    assert not masks(flat(0, 127)).any()


def test_pixels_of_either_object_count_and_no_others() -> None:
    left, right = flat(0), flat(0)
    left[:, :, 4:, 3] = right[:, :, :6, 3] = 0  # columns 4 and 5 are nobody's
    assert psnr_db(left, right) == psnr_db(right, left) == pytest.approx(-10 * np.log10(0.25), abs=1e-4)


def test_a_faint_pixel_is_as_bright_as_its_coverage_weighs() -> None:
    image = flat(0)
    image[:, :, 4:] = (255, 255, 255, 51)
    assert brightness(image) == pytest.approx(0.2 / 1.2)
    red = flat(0)
    red[..., 0] = 255
    assert brightness(red) == pytest.approx(0.2126)

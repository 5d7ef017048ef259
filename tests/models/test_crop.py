import numpy as np

from models.cameras import orbit_camera
from models.crop import Square, crop, crop_nearest, on_grey, resize, square_around


def disc(height: int, width: int, row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.where(np.hypot(rows - row, columns - column) <= radius, 255, 0).astype(np.uint8)


def painted(alpha: np.ndarray, colour: tuple[int, int, int], hidden: tuple[int, int, int]) -> np.ndarray:
    rgb = np.where(alpha[..., None] > 0, np.uint8(colour), np.uint8(hidden))
    return np.dstack([rgb, alpha])


def test_the_square_is_centred_on_the_object_with_padding_at_either_end():
    alpha = np.zeros((100, 200), np.uint8)
    alpha[20:40, 100:150] = 255
    assert square_around(alpha, padding=0.1, threshold=128) == Square(left=95, top=0, side=60)


def test_faint_pixels_do_not_move_the_square():
    alpha = np.zeros((100, 200), np.uint8)
    alpha[20:40, 100:150] = 255
    alpha[90, 5] = 127
    assert square_around(alpha, padding=0.1, threshold=128) == Square(left=95, top=0, side=60)


def test_an_empty_mask_has_no_square():
    assert square_around(np.full((8, 8), 127, np.uint8), padding=0.1, threshold=128) is None


def test_an_object_at_the_border_is_padded_with_transparency():
    image = painted(np.full((40, 40), 255, np.uint8), (200, 100, 50), (0, 0, 0))
    square = square_around(image[..., 3], padding=0.25, threshold=128)
    assert square == Square(left=-10, top=-10, side=60)
    cut = crop(image, square, 60)
    assert (cut[10:50, 10:50] == (200, 100, 50, 255)).all()
    assert cut[..., 3].sum() == 40 * 40 * 255


def test_a_square_beside_the_image_is_transparent():
    image = np.full((10, 10, 4), 255, np.uint8)
    assert not crop(image, Square(20, 0, 8), 8).any()


def test_colour_hidden_under_transparency_does_not_bleed_in():
    image = painted(disc(256, 256, 128, 128, 100), (40, 200, 90), hidden=(255, 0, 255))
    small = resize(image, 61)
    visible = small[..., 3] >= 128
    assert np.abs(small[visible][:, :3].astype(int) - (40, 200, 90)).max() <= 2


def test_the_area_of_a_mask_survives_resampling():
    image = painted(disc(512, 512, 256, 256, 180), (9, 9, 9), (0, 0, 0))
    share = resize(image, 100)[..., 3].mean() / 255
    assert abs(share - np.pi * 180**2 / 512**2) < 1e-3


def test_a_cropped_camera_projects_points_onto_the_cropped_image():
    camera = orbit_camera(30, 20, distance=2.7, fov_deg=40, size_px=256)
    point = np.array([[0.1, 0.2, -0.1]])
    (pixel,), _ = camera.project(point)
    image = painted(disc(256, 256, pixel[1], pixel[0], 9), (255, 255, 255), (0, 0, 0))
    square = Square(left=60, top=41, side=133)
    cut = crop(image, square, 224)
    weights = cut[..., 3] / cut[..., 3].sum()
    rows, columns = np.mgrid[:224, :224] + 0.5
    centroid = (weights * columns).sum(), (weights * rows).sum()
    (moved,), _ = camera.cropped(square.left, square.top, 224 / square.side).project(point)
    np.testing.assert_allclose(centroid, moved, atol=0.5)


def test_depths_are_picked_not_mixed():
    depth = np.zeros((64, 64), np.uint16)
    depth[:, 32:] = 40_000
    depth[:, 40:] = 60_000
    cut = crop_nearest(depth, Square(-8, 4, 50), 33)
    assert set(np.unique(cut)) == {0, 40_000, 60_000}
    assert not cut[:, : int(33 * 8 / 50)].any()


def test_nearest_at_the_same_size_is_a_slice():
    depth = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    np.testing.assert_array_equal(crop_nearest(depth, Square(3, 7, 20), 20), depth[7:27, 3:23])


def test_half_transparent_white_on_black_is_grey():
    composited = on_grey(np.array([[[[255, 255, 255, 51]]]], np.uint8), 0)
    np.testing.assert_allclose(composited, 0.2, atol=1e-6)
    assert composited.dtype == np.float32

import numpy as np
import pytest
import trimesh

from models.cameras import Camera, orbit_camera
from models.geometry import Mesh
from models.metrics.silhouettes import longest_side_ratio, overlaps, silhouette, silhouette_iou

SIZE_PX = 128
DISTANCE, FOV_DEG = 2.5, 40.0


def sphere(radius: float) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32))


def disc(radius: float) -> np.ndarray:
    """The exact silhouette of a centred sphere: a disc whose edge is the tangent cone."""
    focal_px = SIZE_PX / 2 / np.tan(np.radians(FOV_DEG) / 2)
    radius_px = focal_px * radius / np.sqrt(DISTANCE**2 - radius**2)
    offset = np.arange(SIZE_PX) + 0.5 - SIZE_PX / 2
    return np.hypot(offset[:, None], offset) <= radius_px


def test_the_silhouette_of_a_sphere_is_a_disc() -> None:
    drawn = silhouette(sphere(0.4), orbit_camera(30, 10, DISTANCE, FOV_DEG, SIZE_PX), SIZE_PX)
    exact = disc(0.4)
    assert (drawn & exact).sum() / (drawn | exact).sum() > 0.98


def test_drawn_triangles_are_neither_shifted_nor_fat() -> None:
    """Against the pixels whose centres lie inside, which a finer drawing approaches."""
    size_px, rng = 32, np.random.default_rng(0)
    flat = Camera(np.eye(4), np.diag([1.0, 1.0, 1.0]))  # x / z and y / z are pixels
    shifts_px, grown = [], []
    for corners_32 in rng.uniform(2, size_px - 2, (200, 3, 2)):
        exact = pixels_inside(corners_32, size_px)
        if exact.sum() > 20:
            mesh = Mesh(np.column_stack([corners_32, np.ones(3)]).astype(np.float32), np.array([[0, 1, 2]], np.int32))
            drawn = silhouette(mesh, flat, size_px)
            shifts_px.append(centre_px(drawn) - centre_px(exact))
            grown.append(drawn.sum() / exact.sum() - 1)
    assert np.abs(np.mean(shifts_px, axis=0)).max() < 0.02
    assert abs(np.mean(grown)) < 0.1


def pixels_inside(corners_32: np.ndarray, size_px: int) -> np.ndarray:
    x_SS, y_SS = np.meshgrid(np.arange(size_px) + 0.5, np.arange(size_px) + 0.5)
    edges = zip(corners_32, np.roll(corners_32, -1, axis=0), strict=True)
    sides_3SS = np.array([(b[0] - a[0]) * (y_SS - a[1]) - (b[1] - a[1]) * (x_SS - a[0]) for a, b in edges])
    return (sides_3SS > 0).all(axis=0) | (sides_3SS < 0).all(axis=0)


def centre_px(mask_SS: np.ndarray) -> np.ndarray:
    return np.argwhere(mask_SS).mean(axis=0)


def test_iou_is_the_mean_over_views() -> None:
    cameras = tuple(orbit_camera(azimuth, 0, DISTANCE, FOV_DEG, SIZE_PX) for azimuth in (0, 90))
    masks_VHW = np.stack([disc(0.4), np.zeros((SIZE_PX, SIZE_PX), bool)])
    assert silhouette_iou(sphere(0.4), masks_VHW, cameras) == pytest.approx(0.5, abs=0.01)


def test_what_lies_behind_the_camera_is_not_drawn() -> None:
    camera = orbit_camera(0, 0, 0.2, FOV_DEG, SIZE_PX)
    behind = Mesh(sphere(0.05).vertices_N3 + np.array([0, 0, 0.4], np.float32), sphere(0.05).faces_F3)
    assert not silhouette(behind, camera, SIZE_PX).any()


def test_overlap_is_intersection_over_union_of_each_view() -> None:
    left, top = np.zeros((2, 4, 4, 4), bool)
    left[:3, :, :2] = True
    top[1, :2] = True
    top[2] = True
    assert overlaps(left, top).tolist() == overlaps(top, left).tolist() == [0, 4 / 12, 0.5, 0]


def test_a_triangle_that_reaches_behind_the_camera_is_left_out() -> None:
    camera = orbit_camera(0, 0, 0.2, FOV_DEG, SIZE_PX)
    across = Mesh(
        np.array([[-0.02, -0.02, 0], [0.02, -0.02, 0], [0, 0.02, 0.4]], np.float32), np.array([[0, 1, 2]], np.int32)
    )
    assert not silhouette(across, camera, SIZE_PX).any()


def box(height: int, width: int) -> np.ndarray:
    mask = np.zeros((100, 100), bool)
    mask[10 : 10 + height, 20 : 20 + width] = True
    return mask


def test_the_longest_side_ratio_is_the_worst_of_all_views_and_sides() -> None:
    seen = np.stack([box(40, 60), box(30, 50)])
    assert longest_side_ratio(seen, seen) == 1
    narrow = np.stack([box(40, 60), box(30, 25)])
    assert longest_side_ratio(narrow, seen) == longest_side_ratio(seen, narrow) == pytest.approx(49 / 25)
    low = np.stack([box(20, 60), box(30, 50)])
    assert longest_side_ratio(low, seen) == pytest.approx(39 / 20)


def test_one_pixel_more_is_no_longer_side() -> None:
    assert longest_side_ratio(box(4, 60)[None], box(5, 61)[None]) == 1
    assert longest_side_ratio(box(4, 60)[None], box(6, 60)[None]) == pytest.approx(5 / 4)


def test_an_empty_silhouette_has_sides_of_a_pixel_and_two_of_them_agree() -> None:
    empty = np.zeros((1, 100, 100), bool)
    assert longest_side_ratio(empty, box(40, 20)[None]) == 39
    assert longest_side_ratio(empty, empty) == 1

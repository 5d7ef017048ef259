import numpy as np
import pytest
import trimesh

from models.cameras import orbit_camera
from models.geometry import Mesh
from models.metrics.silhouettes import silhouette, silhouette_iou

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


def test_iou_is_the_mean_over_views() -> None:
    cameras = tuple(orbit_camera(azimuth, 0, DISTANCE, FOV_DEG, SIZE_PX) for azimuth in (0, 90))
    masks_VHW = np.stack([disc(0.4), np.zeros((SIZE_PX, SIZE_PX), bool)])
    assert silhouette_iou(sphere(0.4), masks_VHW, cameras) == pytest.approx(0.5, abs=0.01)


def test_what_lies_behind_the_camera_is_not_drawn() -> None:
    camera = orbit_camera(0, 0, 0.2, FOV_DEG, SIZE_PX)
    behind = Mesh(sphere(0.05).vertices_N3 + np.array([0, 0, 0.4], np.float32), sphere(0.05).faces_F3)
    assert not silhouette(behind, camera, SIZE_PX).any()

import numpy as np
import pytest
import trimesh

from models.baselines.ellipsoid import fit_ellipsoid
from models.cameras import Camera, orbit_camera
from models.errors import BadInput
from models.geometry import Mesh
from models.metrics.silhouettes import silhouette, silhouette_iou

SIZE_PX = 128


def cameras(*azimuths_deg: float) -> tuple[Camera, ...]:
    return tuple(orbit_camera(azimuth, 20, 2.5, 40, SIZE_PX) for azimuth in azimuths_deg)


def ellipsoid(radii: tuple[float, float, float], centre: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=1.0)
    turned = trimesh.transformations.rotation_matrix(0.6, [1, 2, 3])[:3, :3]
    return Mesh((ball.vertices * radii @ turned.T + centre).astype(np.float32), ball.faces.astype(np.int32))


def masks(mesh: Mesh, views: tuple[Camera, ...]) -> np.ndarray:
    return np.stack([silhouette(mesh, camera, SIZE_PX) for camera in views])


@pytest.mark.parametrize("radii", [(0.45, 0.2, 0.3), (0.45, 0.06, 0.1)])
def test_a_turned_ellipsoid_is_found_again_from_four_views(radii: tuple[float, float, float]) -> None:
    truth, views = ellipsoid(radii, (0.03, -0.02, 0.04)), cameras(0, 90, 180, 270)
    found = fit_ellipsoid(masks(truth, views), views)
    np.testing.assert_allclose(found.vertices_N3.mean(axis=0), [0.03, -0.02, 0.04], atol=0.005)
    moments = np.linalg.eigvalsh(np.cov(found.vertices_N3.T))
    np.testing.assert_allclose(np.sqrt(3 * moments), sorted(radii), rtol=0.05)


def test_one_view_settles_the_outline_and_leaves_the_depth_round() -> None:
    truth, views = ellipsoid((0.4, 0.2, 0.3)), cameras(0)
    found = fit_ellipsoid(masks(truth, views), views)
    assert silhouette_iou(found, masks(truth, views), views) > 0.95
    assert np.abs(found.vertices_N3).max() < 1


def test_the_mesh_faces_outward() -> None:
    found = fit_ellipsoid(masks(ellipsoid((0.4, 0.2, 0.3)), cameras(0, 90)), cameras(0, 90))
    assert trimesh.Trimesh(found.vertices_N3, found.faces_F3).volume > 0


def test_empty_silhouettes_are_named() -> None:
    with pytest.raises(BadInput, match="every silhouette is empty"):
        fit_ellipsoid(np.zeros((1, SIZE_PX, SIZE_PX), bool), cameras(0))

import numpy as np
import pytest
import trimesh

from models.cameras import Camera, orbit_camera
from models.geometry import Mesh
from models.metrics.flips import FLIPS, Flip, cropped_anew, find_alike
from models.rendering import render

SIZE_PX = 64
OFF_CENTRE = orbit_camera(35, 20, 2.7, 40, SIZE_PX).cropped(5, -3, 1.2)


def test_there_is_every_flip_but_none() -> None:
    assert len(set(FLIPS)) == 7
    assert Flip((1, 1, 1)) not in FLIPS


@pytest.mark.parametrize("flip", FLIPS, ids=str)
def test_a_flipped_camera_sees_the_mesh_where_the_camera_sees_the_flipped_mesh(flip: Flip) -> None:
    points_N3 = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    pixels_N2, depth_N = OFF_CENTRE.project(points_N3 * flip.signs_3)
    flipped = flip.camera(OFF_CENTRE, SIZE_PX)
    found_N2, found_depth_N = flipped.project(points_N3)
    if flip.mirrors:
        found_N2[:, 0] = SIZE_PX - found_N2[:, 0]
    np.testing.assert_allclose(found_N2, pixels_N2, atol=1e-9)
    np.testing.assert_allclose(found_depth_N, depth_N, atol=1e-12)
    assert np.linalg.det(flipped.world_to_camera_44[:3, :3]) == pytest.approx(1)
    assert (np.diag(flipped.intrinsics_33) > 0).all()


@pytest.mark.parametrize("flip", FLIPS, ids=str)
def test_its_images_are_those_of_the_flipped_mesh(flip: Flip) -> None:
    cone = trimesh.creation.cone(radius=0.2, height=0.7)
    cone.apply_transform(trimesh.transformations.euler_matrix(0.4, 0.8, 0.2))
    vertices_N3 = (cone.vertices - cone.centroid + [0.1, 0.05, 0]).astype(np.float32)
    faces_F3 = cone.faces.astype(np.int32)
    truly = Mesh(vertices_N3 * np.array(flip.signs_3, np.float32), faces_F3[:, ::-1] if flip.mirrors else faces_F3)
    expected = render(truly, [OFF_CENTRE], SIZE_PX).rgba_VHW4[..., 3] > 127
    camera = flip.camera(OFF_CENTRE, SIZE_PX)
    found = flip.images(render(Mesh(vertices_N3, faces_F3), [camera], SIZE_PX).rgba_VHW4)[..., 3] > 127
    assert (found & expected).sum() / (found | expected).sum() > 0.93  # edges fall on other samples


def test_flipped_cameras_of_a_ring_stand_where_others_stand() -> None:
    ring = [orbit_camera(azimuth, 12, 2.7, 40, SIZE_PX).cropped(azimuth / 40, 3, 1.1) for azimuth in (0, 90, 180, 270)]
    front, left, back, right = range(4)
    mirrored, turned = Flip((-1, 1, 1)), Flip((-1, 1, -1))
    assert [find_alike(mirrored.camera(camera, SIZE_PX), ring) for camera in ring] == [front, right, back, left]
    assert [find_alike(turned.camera(camera, SIZE_PX), ring) for camera in ring] == [back, right, front, left]
    assert find_alike(Flip((1, -1, 1)).camera(ring[0], SIZE_PX), ring) is None, "it looks from below"
    away = Camera(np.diag([-1.0, 1, -1, 1]) @ ring[0].world_to_camera_44, ring[0].intrinsics_33)
    assert find_alike(away, ring) is None, "it looks the other way"


@pytest.mark.parametrize("roll_deg", [0, 180])
def test_a_picture_cropped_anew_is_what_the_other_camera_sees(roll_deg: int) -> None:
    box = trimesh.creation.box(extents=(0.6, 0.3, 0.2))
    box.apply_transform(trimesh.transformations.euler_matrix(0.4, 0.8, 0.2))
    mesh = Mesh(box.vertices.astype(np.float32), box.faces.astype(np.int32))
    roll_44 = trimesh.transformations.rotation_matrix(np.radians(roll_deg), [0, 0, 1])
    finer = orbit_camera(35, 20, 2.7, 40, SIZE_PX).cropped(12, 8, 1.4)
    other = Camera(roll_44 @ finer.world_to_camera_44, finer.intrinsics_33)
    assert find_alike(other, [OFF_CENTRE]) == 0
    expected, seen = (render(mesh, [camera], SIZE_PX).rgba_VHW4[0] for camera in (other, OFF_CENTRE))
    found = cropped_anew(seen, OFF_CENTRE, other)
    both = (found[..., 3] > 127) & (expected[..., 3] > 127)
    assert both.sum() / ((found[..., 3] > 127) | (expected[..., 3] > 127)).sum() > 0.95
    if roll_deg == 0:
        assert np.abs(found[both].astype(int) - expected[both]).mean() < 6

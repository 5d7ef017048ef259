"""The hull of a sphere's silhouettes is known, and so is what must go wrong."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from models.cameras import NAMED_AZIMUTHS_DEG, Camera, orbit_camera
from models.crop import crop, square_around
from models.errors import BadInput, EmptyOutput
from models.geometry import Mesh, canonical, sample_surface
from models.metrics import Protocol, Surface, compare
from models.metrics.silhouettes import silhouette
from models.silhouettes import silhouette_distance
from models.teachers import Site, TeacherOutput, visual_hull
from models.teachers.visual_hull import LICENCE, Params, create
from models.topology import components, is_watertight, volume
from models.views import Views

RADIUS, SIZE_PX, DISTANCE, FOV_DEG = 0.4, 128, 2.7, 40.0
RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (128, 128, 128)
RING = [(90.0 * k, 12.0) for k in range(4)] + [(45 * k + 22.5, (60.0, 0.0, -40.0)[k % 3]) for k in range(8)]


def disc(camera: Camera, radius: float = RADIUS, colour: tuple[int, int, int] = GREY) -> np.ndarray:
    """What the camera sees of a sphere about the origin: RGBA with the exact edge to a hundredth of a pixel."""
    radius_px = camera.intrinsics_33[0, 0] * radius / np.sqrt(DISTANCE**2 - radius**2)
    rows, columns = np.indices((SIZE_PX, SIZE_PX)) + 0.5
    coverage = (radius_px + 0.5 - np.hypot(rows - SIZE_PX / 2, columns - SIZE_PX / 2)).clip(0, 1)
    return np.dstack([np.full((SIZE_PX, SIZE_PX, 3), colour), np.rint(coverage * 255)]).astype(np.uint8)


def sphere_views(colours: dict[int, tuple[int, int, int]] | None = None) -> Views:
    cameras = tuple(orbit_camera(*angles, DISTANCE, FOV_DEG, SIZE_PX) for angles in RING)
    images = [disc(camera, colour=(colours or {}).get(index, GREY)) for index, camera in enumerate(cameras)]
    return Views(tuple(f"ring_{index:02d}" for index in range(len(RING))), np.stack(images), cameras)


@pytest.fixture(scope="module")
def sphere() -> TeacherOutput:
    return create(Params(), Site()).generate(sphere_views(), seed=0)


def test_it_says_what_planning_must_know():
    assert create(Params(), Site()).licence == LICENCE
    assert visual_hull.unfit(["ring_00"], has_cameras=True) is None
    assert visual_hull.unfit(["front", "right"], has_cameras=False) is None
    for one_side in (["front"], ["front", "back"], ["left", "right"]):
        assert "needs cameras, or photos" in str(visual_hull.unfit(one_side, has_cameras=False))


def test_the_example_in_its_docstring_is_true():
    example = [line.strip() for line in (visual_hull.__doc__ or "").splitlines() if line.startswith("    ")]
    names = {**vars(visual_hull), "views": sphere_views()}
    exec("\n".join(example), names)
    assert is_watertight(names["mesh"])
    assert len(names["gaussians"].means_N3) == Params().num_gaussians


def test_the_hull_of_a_sphere_contains_it_and_little_more(sphere):
    radii = np.linalg.norm(sphere.mesh.vertices_N3, axis=1)
    pixel = 2 * DISTANCE * np.tan(np.radians(FOV_DEG / 2)) / SIZE_PX
    assert radii.min() > RADIUS - pixel / 3
    assert 1.0 < volume(sphere.mesh) / (4 / 3 * np.pi * RADIUS**3) < 1.07


def test_the_hull_lies_close_to_the_sphere(sphere):
    points, normals = sample_surface(sphere.mesh, 5000, np.random.default_rng(0))
    radii = np.linalg.norm(points, axis=1)
    assert np.abs(radii - RADIUS).mean() < 0.008
    assert np.einsum("nd,nd->n", points / radii[:, None], normals).min() > 0.5


def test_the_mesh_is_closed_outward_whole_and_in_the_box(sphere):
    assert is_watertight(sphere.mesh)
    assert volume(sphere.mesh) > 0
    assert components(sphere.mesh).max() == 0
    assert np.isfinite(sphere.mesh.vertices_N3).all()
    assert np.abs(sphere.mesh.vertices_N3).max() <= 0.5


def test_gaussians_lie_flat_on_the_surface(sphere):
    gaussians = sphere.gaussians
    assert gaussians is not None
    assert len(gaussians.means_N3) == Params().num_gaussians
    radii = np.linalg.norm(gaussians.means_N3, axis=1)
    w, x, y, z = gaussians.rotations_N4.T
    axis = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x**2 + y**2)], axis=1)
    assert np.einsum("nd,nd->n", axis, gaussians.means_N3 / radii[:, None]).mean() > 0.97
    scales = np.exp(gaussians.log_scales_N3)
    assert (scales[:, 2] < 0.2 * scales[:, 0]).all()
    area = 4 * np.pi * RADIUS**2
    assert 1 < len(scales) * np.pi * scales[0, 0] * scales[0, 1] / area < 2.5


def test_colours_come_from_the_views_that_see_them():
    front, back = 0, 2
    mesh = create(Params(resolution=48), Site()).generate(sphere_views({front: RED, back: BLUE}), seed=0).mesh
    assert mesh.colours_N4 is not None
    poles = np.array([[0, 0.08, 0.39], [0, 0.08, -0.39]])
    nearest = [np.linalg.norm(mesh.vertices_N3 - pole, axis=1).argmin() for pole in poles]
    red, blue = mesh.colours_N4[nearest].astype(int)
    assert red[0] - red[2] > 60
    assert blue[2] - blue[0] > 60
    assert (mesh.colours_N4[:, 3] == 255).all()


def test_equal_views_give_equal_bytes_and_the_seed_moves_gaussians_alone(sphere):
    again = create(Params(), Site()).generate(sphere_views(), seed=0)
    other = create(Params(), Site()).generate(sphere_views(), seed=1)
    assert again.mesh.to_glb() == sphere.mesh.to_glb() == other.mesh.to_glb()
    assert again.gaussians.to_ply() == sphere.gaussians.to_ply() != other.gaussians.to_ply()


def test_cropped_images_with_their_cameras_carve_the_same_hull(sphere):
    views = sphere_views()
    left, top = 20, 14
    cropped = Views(
        views.names,
        np.ascontiguousarray(views.rgba_VHW4[:, top : top + 96, left : left + 96]),
        tuple(camera.cropped(left, top, 1.0) for camera in views.cameras or ()),
    )
    hull = create(Params(), Site()).generate(cropped, seed=0).mesh
    assert volume(hull) == pytest.approx(volume(sphere.mesh), rel=1e-4)


def test_skipping_far_blocks_changes_no_surface(monkeypatch):
    views = sphere_views()
    args = (views.rgba_VHW4[..., 3], views.names, views.cameras, 40, 0.5)
    quick = visual_hull.carve(*args)
    monkeypatch.setattr(visual_hull, "_near_blocks", lambda *_: np.arange(43**3))
    np.testing.assert_array_equal(quick, visual_hull.carve(*args))


def test_crumbs_are_dropped():
    views = sphere_views()
    volume_XYZ = visual_hull.carve(views.rgba_VHW4[..., 3], views.names, views.cameras, 40, 0.5)
    volume_XYZ[2:4, 2:4, 2:4] = 0.01
    assert components(visual_hull.surface(volume_XYZ, 40, 0.0, 0.01)).max() == 0
    assert components(visual_hull.surface(volume_XYZ, 40, 0.0, 0.0)).max() == 1


def test_silhouette_distances_are_exact_within_the_pixel():
    edge_px = 20.3
    alpha = np.rint(255 * (edge_px - np.arange(40)).clip(0, 1)).astype(np.uint8)
    distance_HW = silhouette_distance(np.tile(alpha, (30, 1)), 0.5)
    np.testing.assert_allclose(distance_HW, np.tile(edge_px - (np.arange(40) + 0.5), (30, 1)), atol=0.01)


def test_hard_silhouettes_end_at_the_pixels_border():
    alpha = np.where(np.arange(40) < 20, 255, 0).astype(np.uint8)
    distance_HW = silhouette_distance(np.tile(alpha, (30, 1)), 0.5)
    np.testing.assert_allclose(distance_HW, np.tile(20 - (np.arange(40) + 0.5), (30, 1)), atol=1e-6)


def test_a_view_without_an_object_is_named():
    views = sphere_views()
    views.rgba_VHW4[3] = 0
    with pytest.raises(BadInput, match="'ring_03' shows no object"):
        create(Params(resolution=32), Site()).generate(views, seed=0)


def test_views_without_cameras_and_sides_are_refused():
    views = sphere_views()
    with pytest.raises(BadInput, match=r"no visual hull of ring_00, .*needs cameras"):
        create(Params(), Site()).generate(Views(views.names, views.rgba_VHW4), seed=0)


def photos_of(mesh: Mesh, elevation_deg: float, names: tuple[str, ...] = tuple(NAMED_AZIMUTHS_DEG)) -> Views:
    """What cameras on four sides see of a mesh, each view cut out by itself, as a matte leaves photos."""
    images = []
    for name in names:
        camera = orbit_camera(NAMED_AZIMUTHS_DEG[name], elevation_deg, DISTANCE, FOV_DEG, 4 * SIZE_PX)
        alpha_HW = silhouette(mesh, camera, 4 * SIZE_PX).astype(np.uint8) * 255
        square = square_around(alpha_HW, padding=0.1, threshold=128)
        assert square is not None
        rgba_HW4 = np.dstack([np.full((*alpha_HW.shape, 3), GREY, np.uint8), alpha_HW])
        images.append(crop(rgba_HW4, square, SIZE_PX))
    return Views(names, np.stack(images))


def duck() -> Mesh:
    """A long, low body with a head at one end: no side looks like another, and views differ in scale."""
    body = trimesh.creation.icosphere(subdivisions=3)
    body.apply_scale((0.5, 0.2, 0.15))
    head = trimesh.creation.icosphere(subdivisions=3, radius=0.15)
    head.apply_translation((0.3, 0.25, 0))
    both = trimesh.util.concatenate([body, head])
    return canonical(Mesh(np.asarray(both.vertices, np.float32), np.asarray(both.faces, np.int32)))


@pytest.mark.parametrize("elevation_deg", [0.0, 20.0])
def test_photos_of_four_sides_are_carved_without_cameras(elevation_deg):
    truth = duck()
    made = create(Params(resolution=64), Site()).generate(photos_of(truth, elevation_deg), seed=0)
    assert made.quality["agreement"] > 0.94
    assert 0 <= made.quality["elevation_deg"] <= 25
    assert is_watertight(made.mesh)
    assert made.mesh.extents.max() == pytest.approx(1)
    np.testing.assert_allclose(made.mesh.extents, truth.extents, atol=0.05)
    assert compare(made.mesh, Surface(truth, Protocol(num_points=2000))).chamfer < 0.025


def test_two_photos_at_right_angles_give_the_proportions():
    made = create(Params(resolution=48), Site()).generate(photos_of(duck(), 10.0, ("front", "right")), seed=0)
    np.testing.assert_allclose(made.mesh.extents, duck().extents, atol=0.08)


def test_a_photo_without_an_object_is_named():
    views = photos_of(duck(), 0.0)
    views.rgba_VHW4[2] = 0
    with pytest.raises(BadInput, match="'back' shows no object"):
        create(Params(resolution=32), Site()).generate(views, seed=0)


def test_silhouettes_that_share_no_point_leave_nothing():
    views = sphere_views()
    views.rgba_VHW4[0, :, :, 3] = 0
    views.rgba_VHW4[0, :4, :4, 3] = 255
    with pytest.raises(EmptyOutput, match="nothing is left"):
        create(Params(resolution=32), Site()).generate(views, seed=0)

"""A disc inflates to an ellipsoid, so the inflation of simple silhouettes is known."""

from __future__ import annotations

import numpy as np
import pytest

from models.cameras import orbit_camera
from models.errors import BadInput, EmptyOutput
from models.geometry import Mesh
from models.silhouettes import silhouette_distance
from models.teachers import Site, TeacherOutput, inflation
from models.teachers.inflation import NEEDS_CAMERAS, Params, create
from models.topology import components, is_watertight, volume
from models.views import Views

SIZE_PX = 96
ROWS, COLUMNS = np.indices((SIZE_PX, SIZE_PX)) + 0.5


def painted(coverage_HW: np.ndarray, colour: tuple[int, int, int] | np.ndarray = (120, 90, 60)) -> np.ndarray:
    """RGBA of an object that covers the pixels so, on transparent ground."""
    rgb_HW3 = np.broadcast_to(np.asarray(colour), (SIZE_PX, SIZE_PX, 3))
    return np.dstack([rgb_HW3, np.rint(coverage_HW.clip(0, 1) * 255)]).astype(np.uint8)


def disc(x: float = 48, y: float = 48, radius: float = 36) -> np.ndarray:
    return (radius + 0.5 - np.hypot(COLUMNS - x, ROWS - y)).clip(0, 1)


def bar(left: float, right: float, top: float, bottom: float) -> np.ndarray:
    across = np.minimum(COLUMNS - left, right - COLUMNS) + 0.5
    return np.minimum(across, np.minimum(ROWS - top, bottom - ROWS) + 0.5).clip(0, 1)


def inflated(image_HW4: np.ndarray, name: str = "front", **params: float) -> TeacherOutput:
    return create(Params(**params), Site()).generate(Views((name,), image_HW4[None]), seed=0)


@pytest.fixture(scope="module")
def ball() -> TeacherOutput:
    return inflated(painted(disc()), depth=1.0)


def test_a_disc_becomes_a_ball(ball):
    radii = np.linalg.norm(ball.mesh.vertices_N3, axis=1)
    np.testing.assert_allclose(radii, 0.5, atol=0.012)
    assert volume(ball.mesh) == pytest.approx(np.pi / 6, rel=0.02)


def test_depth_is_that_of_a_round_silhouette_over_its_width():
    width, height, depth = inflated(painted(disc()), depth=0.6).mesh.extents
    assert (width, height) == pytest.approx((1, 1), abs=0.01)
    assert depth == pytest.approx(0.6, abs=0.01)


def test_a_long_bar_is_an_elliptic_rod():
    _, height, depth = inflated(painted(bar(4, 92, 40, 56)), depth=1.0).mesh.extents
    assert depth / height == pytest.approx(np.sqrt(2), rel=0.02)


@pytest.mark.parametrize(
    ("coverage_HW", "pieces", "handles"),
    [
        (disc(), 1, 0),
        (disc() - disc(radius=15), 1, 1),
        (np.maximum(disc(24, 48, 16), disc(72, 48, 16)) - disc(72, 48, 6), 2, 1),
        (np.maximum(disc(30, 48, 20), bar(40, 90, 47, 48)), 1, 0),
    ],
    ids=["disc", "ring", "disc and ring", "disc with a wire of a pixel"],
)
def test_it_is_closed_with_the_pieces_and_holes_of_the_silhouette(coverage_HW, pieces, handles):
    mesh = inflated(painted(coverage_HW)).mesh
    assert is_watertight(mesh)
    assert volume(mesh) > 0
    assert components(mesh).max() + 1 == pieces
    euler = len(mesh.vertices_N3) - len(mesh.faces_F3) // 2
    assert euler == 2 * (pieces - handles)
    assert np.abs(mesh.vertices_N3).max() <= 0.5
    assert mesh.extents.max() == pytest.approx(1)


def test_thin_parts_keep_their_length():
    with_wire = inflated(painted(np.maximum(disc(20, 48, 16), bar(30, 92, 47, 48)))).mesh
    width, height, _ = with_wire.extents
    assert height / width == pytest.approx(33 / 89, rel=0.03)


def test_specks_of_a_matte_are_dropped():
    speckled = painted(np.maximum(disc(radius=30), bar(90, 91, 4, 5)))
    assert components(inflated(speckled).mesh).max() == 0
    assert components(inflated(speckled, min_component_share=0).mesh).max() == 1


def faces_of(mesh: Mesh, colour: tuple[int, int, int]) -> np.ndarray:
    """Vertices (N, 3) that are nearly of a colour."""
    assert mesh.colours_N4 is not None
    return mesh.vertices_N3[(np.abs(mesh.colours_N4[:, :3].astype(int) - colour).max(axis=1) < 40)]


def test_the_front_shows_the_view_and_the_back_goes_on_from_the_rim():
    red, blue = (220, 20, 20), (20, 20, 220)
    colours_HW3 = np.where(disc(radius=20)[..., None] > 0.5, red, blue)
    mesh = inflated(painted(disc(), colours_HW3)).mesh
    red_N3 = faces_of(mesh, red)
    assert len(red_N3) > 1000
    assert red_N3[:, 2].min() > 0
    back_N4 = mesh.colours_N4[mesh.vertices_N3[:, 2] < 0]
    assert np.abs(back_N4[:, :3].astype(int) - blue).max() <= 2


def test_the_background_does_not_bleed_into_the_rim():
    green, orange = (0, 255, 0), (200, 120, 20)
    image = painted(disc(), orange)
    edge_HW = (image[..., 3] > 0) & (disc(radius=35.2) < 1)
    image[edge_HW, :3] = green
    assert len(faces_of(inflated(image).mesh, green)) == 0


@pytest.mark.parametrize(("name", "axis", "sign"), [("front", 2, 1), ("left", 0, 1), ("back", 2, -1), ("right", 0, -1)])
def test_a_named_view_is_seen_from_its_side(name, axis, sign):
    red = (220, 20, 20)
    colours_HW3 = np.where(disc(radius=20)[..., None] > 0.5, red, (20, 20, 20))
    seen = faces_of(inflated(painted(disc(), colours_HW3), name).mesh, red).mean(axis=0)
    assert np.abs(seen).argmax() == axis
    assert np.sign(seen[axis]) == sign


def test_what_is_right_in_the_image_is_right_of_the_front_and_up_is_up():
    right_HW1, top_HW1 = (COLUMNS > 64)[..., None], (ROWS < 32)[..., None]
    colours_HW3 = np.where(right_HW1, (220, 20, 20), np.where(top_HW1, (20, 20, 220), 60))
    mesh = inflated(painted(disc(), colours_HW3)).mesh
    assert faces_of(mesh, (220, 20, 20))[:, 0].min() > 0
    assert faces_of(mesh, (20, 20, 220))[:, 1].min() > 0


def test_a_known_camera_places_the_shape():
    views = Views(("front",), painted(bar(40, 56, 4, 92))[None], (orbit_camera(0, 60, 2.7, 40, SIZE_PX),))
    mesh = create(Params(), Site()).generate(views, seed=0).mesh
    x, y, z = np.linalg.svd(mesh.vertices_N3, full_matrices=False)[2][0]  # along the bar, which is upright in the image
    assert abs(x) < 1e-3
    assert np.degrees(np.arctan2(-z, y)) % 180 == pytest.approx(60, abs=0.5)


def test_equal_views_give_equal_bytes_and_the_seed_moves_gaussians_alone(ball):
    again = inflated(painted(disc()), depth=1.0)
    other = create(Params(depth=1.0), Site()).generate(Views(("front",), painted(disc())[None]), seed=1)
    assert again.mesh.to_glb() == ball.mesh.to_glb() == other.mesh.to_glb()
    assert again.gaussians.to_ply() == ball.gaussians.to_ply() != other.gaussians.to_ply()


def test_gaussians_lie_on_the_surface(ball):
    assert len(ball.gaussians.means_N3) == Params().num_gaussians
    np.testing.assert_allclose(np.linalg.norm(ball.gaussians.means_N3, axis=1), 0.5, atol=0.012)


def test_an_empty_view_is_named():
    with pytest.raises(BadInput, match="'left' shows no object"):
        inflated(painted(np.zeros((SIZE_PX, SIZE_PX))), "left")


def test_a_silhouette_between_all_lattice_points_is_an_empty_output():
    image = painted(np.zeros((SIZE_PX, SIZE_PX)))
    image[40, 40, 3] = 128
    with pytest.raises(EmptyOutput, match="thinner than a pixel"):
        inflated(image, resolution=33)


def test_an_unsure_matte_inside_an_object_does_not_move_its_edge():
    alpha = painted(disc())[..., 3]
    unsure = np.where(disc(radius=30) > 0, 200, alpha).astype(np.uint8)
    np.testing.assert_array_equal(silhouette_distance(unsure, 0.5), silhouette_distance(alpha, 0.5))


def test_it_needs_no_camera():
    assert NEEDS_CAMERAS is False


def test_the_example_in_its_docstring_is_true():
    example = [line.strip() for line in (inflation.__doc__ or "").splitlines() if line.startswith("    ")]
    names = {**vars(inflation), "views": Views(("front",), painted(disc())[None])}
    exec("\n".join(example), names)
    assert is_watertight(names["mesh"])
    assert len(names["gaussians"].means_N3) == Params().num_gaussians

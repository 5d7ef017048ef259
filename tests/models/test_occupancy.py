import numpy as np
import pytest
import trimesh

from models.errors import BadInput
from models.geometry import Mesh
from models.occupancy import cells_iou, contains, occupied_cells, truncated_sdf


def sphere(radius: float, centre: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return Mesh((ball.vertices + centre).astype(np.float32), ball.faces.astype(np.int32))


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Mesh:
    cube = trimesh.creation.box(bounds=[low, high])
    return Mesh(cube.vertices.astype(np.float32), cube.faces.astype(np.int32))


def soup(mesh: Mesh) -> Mesh:
    """Every triangle with vertices of its own, as texture seams leave them."""
    faces_F3 = np.arange(mesh.faces_F3.size, dtype=np.int32).reshape(-1, 3)
    return Mesh(mesh.vertices_N3[mesh.faces_F3].reshape(-1, 3), faces_F3)


def test_the_volume_of_a_sphere_is_counted_to_a_percent() -> None:
    assert occupied_cells(sphere(0.4), 64).volume == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.01)


def test_boxes_on_the_lattice_have_the_exact_iou() -> None:
    left, right = box((-0.5, -0.25, 0), (0.25, 0.25, 0.25)), box((0, -0.25, 0), (0.5, 0.25, 0.25))
    assert cells_iou(occupied_cells(left, 64), occupied_cells(right, 64)) == 0.25


def test_iou_is_symmetric_one_with_itself_and_zero_where_apart() -> None:
    a, b = occupied_cells(sphere(0.3), 32), occupied_cells(sphere(0.3, (0.1, 0, 0)), 32)
    away = occupied_cells(sphere(0.1, (0.4, 0.4, 0.4)), 32)
    assert cells_iou(a, b) == cells_iou(b, a)
    assert cells_iou(a, a) == 1
    assert cells_iou(a, away) == 0


def test_two_volumeless_meshes_have_no_iou() -> None:
    flat = Mesh(np.eye(3, dtype=np.float32) * 0.4, np.array([[0, 1, 2]], np.int32))
    assert cells_iou(occupied_cells(flat, 16), occupied_cells(flat, 16)) == 0


def test_lattices_of_different_resolution_are_refused() -> None:
    with pytest.raises(ValueError, match="different lattices"):
        cells_iou(occupied_cells(sphere(0.3), 16), occupied_cells(sphere(0.3), 32))


def test_seams_holes_and_flipped_faces_keep_the_inside() -> None:
    ball = sphere(0.4)
    whole = occupied_cells(ball, 32)
    holed = Mesh(ball.vertices_N3, ball.faces_F3[20:])
    assert cells_iou(whole, occupied_cells(soup(ball), 32)) == 1
    assert cells_iou(whole, occupied_cells(Mesh(ball.vertices_N3, ball.faces_F3[:, ::-1].copy()), 32)) == 1
    assert cells_iou(whole, occupied_cells(holed, 32)) > 0.99


def test_a_runaway_mesh_stays_affordable() -> None:
    assert occupied_cells(sphere(1e6), 16).inside_XYZ.shape == (32, 32, 32)


def test_vertices_that_are_not_finite_are_named() -> None:
    ball = sphere(0.4)
    ball.vertices_N3[7] = np.nan
    with pytest.raises(BadInput, match="not finite"):
        contains(ball, np.zeros((1, 3)))


def test_the_sdf_of_a_sphere_is_the_distance_from_its_centre_less_its_radius() -> None:
    sdf_RRR = truncated_sdf(sphere(0.3), 32, 0.1)
    axis = (np.arange(32) + 0.5) / 32 - 0.5
    expected = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) - 0.3
    np.testing.assert_allclose(sdf_RRR, expected.clip(-0.1, 0.1), atol=2e-3)

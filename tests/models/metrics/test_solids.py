import numpy as np
import pytest
import trimesh

from models.geometry import Mesh
from models.metrics.solids import area_to_hull, outward_share


def as_mesh(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int32))


def ball(radius: float = 0.4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=3, radius=radius)


def test_the_surface_of_a_solid_faces_outward() -> None:
    assert outward_share(as_mesh(ball()), 0) == 1


def test_a_mesh_that_is_inside_out_faces_inward() -> None:
    outward = as_mesh(ball())
    assert outward_share(Mesh(outward.vertices_N3, outward.faces_F3[:, ::-1].copy()), 0) == 0


def test_a_hollow_is_a_boundary_too() -> None:
    cavity = ball(0.3)
    cavity.invert()
    assert outward_share(as_mesh(trimesh.util.concatenate([ball(), cavity])), 0) == 1


def test_a_wall_inside_the_solid_bounds_nothing() -> None:
    inner, outer = 0.3**2, 0.4**2
    walled = as_mesh(trimesh.util.concatenate([ball(), ball(0.3)]))
    assert outward_share(walled, 0) == pytest.approx(outer / (inner + outer), abs=0.03)


def test_an_open_sheet_bounds_nothing() -> None:
    square = Mesh(
        np.array([[-0.5, 0, -0.5], [0.5, 0, -0.5], [0.5, 0, 0.5], [-0.5, 0, 0.5]], np.float32),
        np.array([[0, 2, 1], [0, 3, 2]], np.int32),
    )
    assert outward_share(square, 0) < 0.05


def test_a_mesh_without_area_bounds_nothing() -> None:
    point = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    assert outward_share(point, 0) == 0


def test_area_is_taken_over_that_of_the_convex_hull() -> None:
    box = trimesh.creation.box(extents=(1, 0.4, 0.6))
    assert area_to_hull(as_mesh(box)) == pytest.approx(1, rel=1e-4)
    halved = trimesh.util.concatenate([box, box.copy().apply_scale(0.5)])
    assert area_to_hull(as_mesh(halved)) == pytest.approx(1.25, rel=1e-4)


def test_a_flat_mesh_has_a_hull_of_two_sides() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32)
    assert area_to_hull(Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32))) == pytest.approx(0.5, rel=1e-3)


def test_a_triangle_has_no_hull() -> None:
    assert area_to_hull(Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))) is None

import numpy as np
import pytest
import trimesh

from models.baselines.mean_shape import mean_shape
from models.errors import EmptyOutput
from models.geometry import Mesh
from models.occupancy import occupied_cells


def sphere(radius: float, centre: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return Mesh((ball.vertices + centre).astype(np.float32), ball.faces.astype(np.int32))


def is_closed(mesh: Mesh) -> bool:
    return bool(trimesh.Trimesh(mesh.vertices_N3, mesh.faces_F3).is_watertight)


def test_the_mean_of_one_sphere_is_that_sphere() -> None:
    mean = mean_shape([sphere(0.4)])
    np.testing.assert_allclose(np.linalg.norm(mean.vertices_N3, axis=1), 0.4, atol=1.5e-3)
    assert trimesh.Trimesh(mean.vertices_N3, mean.faces_F3).volume > 0
    assert is_closed(mean)


def test_the_mean_of_one_box_is_that_box() -> None:
    """Its sides run between cells, whose values jump there: the level is midway."""
    box = trimesh.creation.box(extents=(0.5, 0.25, 0.75))
    mean = mean_shape([Mesh(box.vertices.astype(np.float32), box.faces.astype(np.int32))])
    np.testing.assert_allclose(mean.extents, (0.5, 0.25, 0.75), atol=1e-3)


def test_the_mean_of_two_spheres_has_their_mean_volume() -> None:
    mean = mean_shape([sphere(0.2), sphere(0.4)])
    radius = ((0.2**3 + 0.4**3) / 2) ** (1 / 3)  # the mean radius is .3, where the mean distance is zero
    assert radius == pytest.approx(0.33, abs=2e-3)
    np.testing.assert_allclose(np.linalg.norm(mean.vertices_N3, axis=1), radius, atol=1.5e-3)


def test_every_mesh_counts_however_many_threads_read_them() -> None:
    spheres = [sphere(radius) for radius in (0.2, 0.3, 0.4)]
    radius = (np.mean([0.2**3, 0.3**3, 0.4**3])) ** (1 / 3)
    for num_threads in (1, 2):
        mean = mean_shape(iter(spheres), num_threads)
        np.testing.assert_allclose(np.linalg.norm(mean.vertices_N3, axis=1), radius, atol=1.5e-3)


def rod(axis: int) -> Mesh:
    sides = np.full(3, 0.15)
    sides[axis] = 0.9
    box = trimesh.creation.box(extents=sides)
    return Mesh(box.vertices.astype(np.float32), box.faces.astype(np.int32))


def test_shapes_that_overlap_little_keep_their_volume() -> None:
    mean = mean_shape([rod(0), rod(1), rod(2)])
    assert occupied_cells(mean, 64).volume == pytest.approx(occupied_cells(rod(0), 64).volume, rel=0.05)


def test_a_shape_that_fills_the_cube_is_closed() -> None:
    cube = trimesh.creation.box(extents=(1, 1, 1))
    assert is_closed(mean_shape([Mesh(cube.vertices.astype(np.float32), cube.faces.astype(np.int32))]))


def test_parts_that_never_overlap_still_give_a_shape_of_the_mean_volume() -> None:
    apart = [sphere(0.05, (0.3 * x, 0, 0.3 * z)) for x in (-1, 0, 1) for z in (-1, 1)]
    mean = mean_shape(apart)
    assert occupied_cells(mean, 64).volume == pytest.approx(occupied_cells(apart[0], 64).volume, rel=0.1)


def test_meshes_without_volume_have_no_mean() -> None:
    flat = Mesh(np.eye(3, dtype=np.float32) * 0.4, np.array([[0, 1, 2]], np.int32))
    with pytest.raises(EmptyOutput, match="enclose a volume"):
        mean_shape([flat])

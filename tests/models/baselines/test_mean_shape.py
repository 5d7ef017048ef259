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


def test_the_mean_of_two_spheres_has_the_mean_radius() -> None:
    mean = mean_shape([sphere(0.36), sphere(0.42)])
    np.testing.assert_allclose(np.linalg.norm(mean.vertices_N3, axis=1), 0.39, atol=2e-3)


def test_a_shape_that_fills_the_cube_is_closed() -> None:
    cube = trimesh.creation.box(extents=(1, 1, 1))
    assert is_closed(mean_shape([Mesh(cube.vertices.astype(np.float32), cube.faces.astype(np.int32))]))


def test_parts_that_never_overlap_still_give_a_shape_of_the_mean_volume() -> None:
    apart = [sphere(0.05, (0.3 * x, 0, 0.3 * z)) for x in (-1, 0, 1) for z in (-1, 1)]
    mean = mean_shape(apart)
    assert occupied_cells(mean, 64).volume == pytest.approx(occupied_cells(apart[0], 64).volume, rel=0.5)


def test_meshes_without_volume_have_no_mean() -> None:
    flat = Mesh(np.eye(3, dtype=np.float32) * 0.4, np.array([[0, 1, 2]], np.int32))
    with pytest.raises(EmptyOutput, match="enclose a volume"):
        mean_shape([flat])

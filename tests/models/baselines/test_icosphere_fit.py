import numpy as np
import trimesh

from models.baselines.icosphere_fit import fit_icosphere
from models.geometry import Mesh
from models.metrics import Protocol, Surface, compare

PROTOCOL = Protocol(num_points=4_000, iou_resolution=32)


def mesh_of(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int32))


def test_a_box_is_fitted_to_nearly_the_sampling_floor() -> None:
    truth = Surface(mesh_of(trimesh.creation.box(extents=(1, 0.4, 0.6))), PROTOCOL)
    fit = fit_icosphere(truth.mesh, num_steps=40, seed=0)
    figures, floor = compare(fit, truth), compare(truth.mesh, truth)
    assert fit.vertices_N3.shape == (2562, 3)
    assert figures.chamfer < 1.1 * floor.chamfer
    assert figures.iou > 0.95


def test_a_concave_shape_is_reached_too() -> None:
    capsule = trimesh.creation.capsule(height=0.7, radius=0.1)
    bent = np.asarray(capsule.vertices) - [0, 0, 0.35]
    bent[:, 0] += 1.2 * bent[:, 2] ** 2
    truth = Surface(Mesh(bent.astype(np.float32), capsule.faces.astype(np.int32)), PROTOCOL)
    figures = compare(fit_icosphere(truth.mesh, num_steps=40, seed=0), truth)
    assert figures.chamfer < 1.2 * compare(truth.mesh, truth).chamfer


def test_the_fit_goes_out_from_the_ellipsoid_in_the_truths_box() -> None:
    box = mesh_of(trimesh.creation.box(extents=(0.6, 0.4, 0.2)).apply_translation([0.1, -0.2, 0.3]))
    start = fit_icosphere(box, num_steps=0, seed=0)
    low, high = start.vertices_N3.min(axis=0), start.vertices_N3.max(axis=0)
    np.testing.assert_allclose((low + high) / 2, [0.1, -0.2, 0.3], atol=0.005)
    np.testing.assert_allclose(high - low, [0.6, 0.4, 0.2], atol=0.005)


def test_equal_seeds_give_equal_vertices() -> None:
    truth = mesh_of(trimesh.creation.box(extents=(1, 0.4, 0.6)))
    first, second = (fit_icosphere(truth, num_steps=4, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.vertices_N3, second.vertices_N3)

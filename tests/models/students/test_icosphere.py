import numpy as np
import pytest

from models.students.mesh_deform.icosphere import edges, icosphere, neighbours

COUNTS = [(0, 12, 20), (1, 42, 80), (2, 162, 320), (3, 642, 1280), (4, 2562, 5120)]


@pytest.mark.parametrize(("level", "num_vertices", "num_faces"), COUNTS)
def test_counts_are_exact_and_the_surface_is_closed(level, num_vertices, num_faces):
    sphere = icosphere(level)
    assert sphere.vertices_N3.shape == (num_vertices, 3)
    assert sphere.faces_F3.shape == (num_faces, 3)
    assert num_vertices - len(edges(sphere.faces_F3)) + num_faces == 2
    assert np.allclose(np.linalg.norm(sphere.vertices_N3, axis=1), 1, atol=1e-6)


def test_faces_look_outward():
    sphere = icosphere(3)
    a, b, c = np.moveaxis(sphere.vertices_N3[sphere.faces_F3], 1, 0)
    assert (np.einsum("fc,fc->f", np.cross(b - a, c - a), a + b + c) > 0).all()


def test_a_finer_level_begins_with_the_coarser_one_and_halves_its_edges():
    coarse, fine = icosphere(2), icosphere(3)
    assert np.array_equal(fine.vertices_N3[:162], coarse.vertices_N3)
    middle = coarse.vertices_N3[fine.parents_M2].mean(axis=1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    assert np.allclose(fine.vertices_N3[162:], middle, atol=1e-6)


def test_twelve_vertices_have_five_neighbours_and_all_others_six():
    table = neighbours(icosphere(2).faces_F3)
    assert np.bincount((table >= 0).sum(1)).tolist() == [0, 0, 0, 0, 0, 12, 150]
    assert all(number in table[other] for number in range(162) for other in table[number] if other >= 0)

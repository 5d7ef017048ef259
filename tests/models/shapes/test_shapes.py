import time

import numpy as np
import pytest

from models.geometry import Mesh
from models.shapes import KINDS, Kind, eyeglasses, make, shoe
from models.shapes.solids import hoop, loft, section_rings, signed_volume, to_mesh

SEEDS = range(24)


def edge_directions(faces_F3: np.ndarray) -> np.ndarray:
    """Directed edges (3F, 2)."""
    return faces_F3[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)


def solids_of(kind: Kind, seed: int) -> list:
    module = {"shoe": shoe, "eyeglasses": eyeglasses}[kind]
    return module.build(module.design(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_every_solid_is_watertight_and_wound_outward(kind: Kind) -> None:
    for seed in SEEDS:
        for solid in solids_of(kind, seed):
            edges = edge_directions(solid.faces_F3)
            unique, counts = np.unique(edges, axis=0, return_counts=True)
            assert (counts == 1).all(), "an edge is walked twice in one direction"
            assert {tuple(edge) for edge in unique} == {tuple(edge[::-1]) for edge in unique}
            assert signed_volume(solid.vertices_N3, solid.faces_F3) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_bytes_and_others_differ(kind: Kind) -> None:
    assert make(kind, 3).mesh.to_glb() == make(kind, 3).mesh.to_glb()
    assert make(kind, 3).mesh.to_glb() != make(kind, 4).mesh.to_glb()


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_finite_coloured_and_of_moderate_size(kind: Kind) -> None:
    for seed in SEEDS:
        mesh = make(kind, seed).mesh
        assert np.isfinite(mesh.vertices_N3).all()
        assert mesh.colours_N4 is not None
        assert len(mesh.colours_N4) == len(mesh.vertices_N3)
        assert 1_500 <= len(mesh.faces_F3) <= 12_000


def test_a_shape_takes_under_50_ms() -> None:
    make("shoe", 0), make("eyeglasses", 0)
    fastest = {}
    for kind in KINDS:
        times = []
        for seed in range(5):
            started = time.perf_counter()
            make(kind, seed)
            times.append(time.perf_counter() - started)
        fastest[kind] = min(times)
    assert max(fastest.values()) < 0.05


def test_a_shoe_has_the_length_of_its_size_and_points_to_the_front() -> None:
    for seed in SEEDS:
        drawn = shoe.design(seed)
        mesh = make("shoe", seed).mesh
        assert mesh.extents[2] == pytest.approx(drawn.size_eu * 2 / 300, rel=0.12), "a shaft may lean out"
        assert mesh.extents[2] > 1.8 * mesh.extents[0]
        if drawn.style == "sandal":
            continue
        heel_side = mesh.vertices_N3[mesh.vertices_N3[:, 2] < drawn.length * 0.3]
        toe_side = mesh.vertices_N3[mesh.vertices_N3[:, 2] > drawn.length * 0.85]
        assert heel_side[:, 1].max() > toe_side[:, 1].max(), "the toe is the low end"


def test_eyeglasses_are_mirror_images_with_lenses_to_the_front() -> None:
    for seed in SEEDS:
        vertices = make("eyeglasses", seed).mesh.vertices_N3
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        assert low[0] == pytest.approx(-high[0], abs=1e-4)
        assert abs(high[2]) < 0.03
        assert low[2] < -0.1


@pytest.mark.parametrize("kind", KINDS)
def test_labels_name_style_material_colour_and_size(kind: Kind) -> None:
    labels = [make(kind, seed).labels for seed in SEEDS]
    assert all({"style", "material", "colour", "size"} <= set(label) for label in labels)
    assert len({label["style"] for label in labels}) >= 4


def test_shoes_differ_in_silhouette_from_every_side() -> None:
    extents = np.array([make("shoe", seed).mesh.extents for seed in range(60)])
    height, width = extents[:, 1] / extents[:, 2], extents[:, 0] / extents[:, 2]
    assert height.max() > 3 * height.min()
    assert width.max() > 1.3 * width.min()


def test_an_unknown_shape_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown shape 'hat'; there are: shoe, eyeglasses"):
        make("hat", 0)  # type: ignore[arg-type]


def test_a_lofted_prism_has_its_exact_volume() -> None:
    angle = 2 * np.pi * np.arange(8) / 8
    octagon = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], axis=1)
    rings = np.stack([octagon, octagon + np.array([0, 2.0, 0])])
    solid = loft(rings, (1.0, 0.0, 0.0))
    area = 8 / 2 * np.sin(np.pi / 4)
    assert signed_volume(solid.vertices_N3, solid.faces_F3) == pytest.approx(2 * area)


def test_a_hoop_has_pappus_volume() -> None:
    angle = 2 * np.pi * np.arange(256) / 256
    path = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    forward = np.broadcast_to([0.0, 0.0, 1.0], path.shape)
    sizes = np.array([[0.1, 0.2]])
    rings = section_rings(path, forward, sizes, exponent=2, num_points=256, closed=True)
    solid = hoop(rings, (0.0, 0.0, 0.0))
    expected = 2 * np.pi * (np.pi * 0.1 * 0.2)
    assert signed_volume(solid.vertices_N3, solid.faces_F3) == pytest.approx(expected, rel=1e-3)


def test_to_mesh_keeps_the_parts_apart() -> None:
    ring = np.array([[1.0, 0, 0], [0, 0, 1.0], [-1.0, 0, 0], [0, 0, -1.0]])
    part = loft(np.stack([ring, ring + np.array([0, 1.0, 0])]), (0.0, 1.0, 0.0))
    mesh = to_mesh([part, part])
    assert isinstance(mesh, Mesh)
    assert mesh.faces_F3.max() == 2 * len(part.vertices_N3) - 1
    assert mesh.colours_N4 is not None
    assert mesh.colours_N4[0].tolist() == [0, 255, 0, 255]

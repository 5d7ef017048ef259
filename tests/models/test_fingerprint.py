from typing import Any

import numpy as np
import pytest
import trimesh

from models import shapes
from models.errors import BadInput
from models.fingerprint import NEARLY_EQUAL, nearly_equal, shape_fingerprint
from models.geometry import Mesh
from tests.support import ROOT

REAL_SHOES = ROOT.parent / "shared" / "data" / "shoes"


def as_mesh(found: Any) -> Mesh:
    return Mesh(np.asarray(found.vertices, np.float32), np.asarray(found.faces, np.int32))


def test_turning_moving_scaling_mirroring_and_subdividing_change_nothing() -> None:
    cone = trimesh.creation.cone(0.4, 1.3, sections=7)
    expected = shape_fingerprint(as_mesh(cone))
    turn = trimesh.transformations.rotation_matrix(1.1, [1, 2, 3])
    turned = cone.copy().apply_transform(turn).apply_scale(3.7).apply_translation([5, -6, 7])
    mirrored = cone.copy().apply_transform(np.diag([-1.0, 1, 1, 1]))
    for same in (turned, mirrored, cone.subdivide().subdivide()):
        assert shape_fingerprint(as_mesh(same)) == pytest.approx(expected, abs=1e-5)


def test_the_numbers_of_a_sphere_are_those_of_the_formula() -> None:
    fingerprint = shape_fingerprint(as_mesh(trimesh.creation.icosphere(subdivisions=5)))
    expected = [np.log(4 * np.pi), 1 / 3, 1 / 3, 0, 0, 0, np.log(1 / 3) / 2, np.log(1 / 5) / 2]
    assert fingerprint == pytest.approx(expected, abs=1e-3)


def test_other_objects_are_told_apart() -> None:
    fingerprints = np.array([shape_fingerprint(shapes.make("shoe", seed).mesh) for seed in range(24)])
    assert nearly_equal(fingerprints) == []


def test_pairs_are_found_once_and_in_order() -> None:
    one, other = np.zeros(8), np.full(8, 0.5)
    almost = one + 0.4 * NEARLY_EQUAL
    assert nearly_equal(np.array([other, one, almost, other + 1, one])) == [(1, 2), (1, 4)]
    assert nearly_equal(np.array([one, other, one, other, one])) == [(0, 2), (1, 3), (2, 4)]
    assert nearly_equal(np.array([one, [*one[:7], 1.1 * NEARLY_EQUAL]])) == []
    assert nearly_equal(np.array([one])) == []


def test_a_mesh_without_area_is_bad_input() -> None:
    with pytest.raises(BadInput, match="no surface area"):
        shape_fingerprint(Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32)))


@pytest.mark.skipif(not REAL_SHOES.is_dir(), reason="the optional real data is not there")
def test_two_variants_of_one_real_shoe_are_found_among_others() -> None:
    paths = sorted(REAL_SHOES.glob("*.glb"))
    fingerprints = np.array([shape_fingerprint(Mesh.from_glb(path.read_bytes())) for path in paths])
    pairs = [(paths[i].stem, paths[j].stem) for i, j in nearly_equal(fingerprints)]
    assert pairs == [("khr_MaterialsVariantsShoe_beach", "khr_MaterialsVariantsShoe_street")]

"""Casts are converted to what their files hold, or the field that cannot be is named; files give them back."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from models import plugins
from models.casts import gaussians, kind_of, mesh, name_of
from models.errors import EmptyOutput
from models.exam import Exam
from models.gaussians import Gaussians
from models.geometry import Mesh

VERTICES_N3 = 0.5 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
FACES_F3 = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)
COLOURS_N4 = np.arange(16, dtype=np.uint8).reshape(4, 4)
TETRAHEDRON = Mesh(VERTICES_N3, FACES_F3, COLOURS_N4)
SPLATS = Gaussians(
    means_N3=VERTICES_N3,
    log_scales_N3=np.full((4, 3), -4, np.float32),
    rotations_N4=np.tile(np.array([1, 0, 0, 0], np.float32), (4, 1)),
    opacity_logits_N=np.ones(4, np.float32),
    sh_dc_N3=np.zeros((4, 3), np.float32),
)


def same(first, second) -> bool:
    """Field by field, types included."""
    pairs = [(getattr(first, field.name), getattr(second, field.name)) for field in fields(first)]
    return all(one.dtype == other.dtype and np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("cast", [TETRAHEDRON, SPLATS], ids=["mesh", "gaussians"])
def test_a_cast_comes_back_from_its_files(cast):
    kind = kind_of(cast)
    stored = kind.as_stored(cast)
    assert same(stored, cast)
    files = kind.to_files(stored)
    assert list(files) == [kind.FILE]
    assert same(kind.from_files(files), cast)


def test_what_is_no_cast_is_told_what_there_is():
    with pytest.raises(TypeError, match="str is of no kind of cast; there are: gaussians, mesh"):
        kind_of("a picture")


def test_every_kind_has_the_same_functions():
    functions = (
        "to_files",
        "from_files",
        "as_stored",
        "check",
        "check_frame",
        "measure",
        "surface",
        "rendering",
        "describe",
    )
    for name in plugins.known("casts"):
        kind = plugins.load("casts", name)
        assert all(callable(getattr(kind, function)) for function in functions)
        assert name_of(kind) == name


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int64", "uint64", "float32", ">i4", "object"])
def test_faces_of_any_type_that_holds_whole_numbers_are_taken(dtype):
    if dtype == "object":
        with pytest.raises(
            EmptyOutput, match=r"mesh has faces that are object \(4, 3\), not numbers \(N, 3\) \(faces_F3\)"
        ):
            mesh.as_stored(replace(TETRAHEDRON, faces_F3=FACES_F3.astype(dtype)))
    else:
        assert same(mesh.as_stored(replace(TETRAHEDRON, faces_F3=FACES_F3.astype(dtype))), TETRAHEDRON)


def test_arrays_that_are_read_only_or_not_contiguous_are_taken():
    wide_N6 = np.repeat(VERTICES_N3, 2, axis=1)
    wide_N6.flags.writeable = False
    strided = replace(TETRAHEDRON, vertices_N3=wide_N6[:, ::2], faces_F3=np.asfortranarray(FACES_F3))
    stored = mesh.as_stored(strided)
    assert same(stored, TETRAHEDRON)
    assert mesh.to_files(stored) == mesh.to_files(TETRAHEDRON)
    assert same(mesh.as_stored(replace(TETRAHEDRON, vertices_N3=VERTICES_N3.astype(np.float64))), TETRAHEDRON)


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255, 255]),
        ([1 / 255, 1.4999 / 255, 1.5001 / 255], [1, 1, 2, 255]),
        ([1.0005, -0.0005, 0.2, 0.5], [255, 0, 51, 128]),
        (np.array([0, 257, 65535], np.uint16), [0, 1, 255, 255]),
        (np.array([3, 200, 255], np.int64), [3, 200, 255, 255]),
        (np.array([3, 200, 255], np.uint8), [3, 200, 255, 255]),
    ],
)
def test_colours_of_any_type_become_eight_bits_correctly_rounded(colours, expected):
    given_N = np.tile(np.asarray(colours), (4, 1))
    given_N.flags.writeable = False  # as an array out of a buffer is
    stored = mesh.as_stored(replace(TETRAHEDRON, colours_N4=given_N))
    assert stored.colours_N4.tolist() == [expected] * 4
    assert mesh.from_files(mesh.to_files(stored)).colours_N4.tolist() == [expected] * 4


NAN_COLOURS_N3 = np.where(np.eye(4, 3, dtype=bool), np.nan, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colours_N4": NAN_COLOURS_N3}, r"colours that are not finite \(colours_N4: 3 of 4 are NaN or infinite\)"),
        (
            {"colours_N4": np.full((4, 3), 200.0)},
            r"colours out of range \(colours_N4: float64 from 200 to 200, where 0 to 1",
        ),
        (
            {"colours_N4": np.full((4, 3), -1)},
            r"colours out of range \(colours_N4: int64 from -1 to -1, where 0 to 255",
        ),
        ({"colours_N4": np.zeros((3, 4), np.uint8)}, r"3 colours \(colours_N4\) and 4 vertices"),
        (
            {"colours_N4": np.zeros(4)},
            r"colours that are float64 \(4,\), not numbers \(N, 3\) or \(N, 4\) \(colours_N4\)",
        ),
        ({"vertices_N3": np.full((4, 3), np.inf)}, r"vertices that are not finite \(vertices_N3: 4 of 4"),
        ({"vertices_N3": np.full((4, 3), 1e39)}, r"vertices that are not finite \(vertices_N3"),
        ({"vertices_N3": np.array([["a"] * 3] * 4)}, r"vertices that are <U1 \(4, 3\), not numbers \(N, 3\)"),
        ({"faces_F3": FACES_F3 + 0.5}, r"faces that are no whole numbers \(faces_F3\)"),
        (
            {"faces_F3": FACES_F3.astype(np.int64) + (1 << 32)},
            r"faces that point at no vertex \(faces_F3: 4294967296 to",
        ),
        ({"faces_F3": FACES_F3 - 1}, r"faces that point at no vertex \(faces_F3: -1 to 2, there are 4\)"),
    ],
)
def test_a_field_of_a_mesh_that_cannot_be_stored_is_named(change, message):
    with pytest.raises(EmptyOutput, match=f"mesh has {message}"):
        mesh.as_stored(replace(TETRAHEDRON, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means_N3": VERTICES_N3 * np.nan}, r"means that are not finite \(means_N3: 4 of 4"),
        ({"opacity_logits_N": np.full(4, np.inf)}, r"opacity logits that are not finite \(opacity_logits_N: 4 of 4"),
        ({"opacity_logits_N": np.ones((4, 1))}, r"opacity logits that are float64 \(4, 1\), not numbers \(N,\)"),
        ({"sh_dc_N3": np.zeros((3, 3))}, r"fields of different lengths: .*'sh_dc_N3': 3"),
    ],
)
def test_a_field_of_gaussians_that_cannot_be_stored_is_named(change, message):
    with pytest.raises(EmptyOutput, match=f"Gaussians have {message}"):
        gaussians.as_stored(replace(SPLATS, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotations_N4": np.zeros((4, 4), np.float32)}, r"rotations of length 0 \(rotations_N4\)"),
        ({"means_N3": VERTICES_N3 * np.nan}, r"means that are not finite \(means_N3: 4 of 4"),
    ],
)
def test_gaussians_that_show_nothing_are_refused(change, message):
    with pytest.raises(EmptyOutput, match=message):
        gaussians.check(replace(SPLATS, **change))
    none = Gaussians(**{field.name: getattr(SPLATS, field.name)[:0] for field in fields(SPLATS)})
    with pytest.raises(EmptyOutput, match="Gaussians are none"):
        gaussians.check(gaussians.as_stored(none))


def test_a_few_stray_gaussians_are_usual():
    means_N3 = np.tile(VERTICES_N3, (10, 1))
    means_N3[:4] = 9
    many = Gaussians(**{field.name: np.repeat(getattr(SPLATS, field.name), 10, axis=0) for field in fields(SPLATS)})
    gaussians.check_frame(replace(many, means_N3=means_N3))
    means_N3[:5] = 9
    with pytest.raises(EmptyOutput, match=r"leave the canonical box: 12% of their centres lie beyond \.5"):
        gaussians.check_frame(replace(many, means_N3=means_N3))


def test_gaussians_are_described_and_exported_but_neither_drawn_nor_measured():
    assert gaussians.describe(SPLATS) == "4 Gaussians"
    assert gaussians.EXPORTS[".ply"](SPLATS) == SPLATS.to_ply()
    assert gaussians.surface(SPLATS) is gaussians.rendering(SPLATS, (), 8) is None
    assert gaussians.measure(SPLATS, Exam()) == {}

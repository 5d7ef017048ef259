"""The 3DGS PLY, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import BadInput
from models.gaussians import SH_C0, Gaussians, rotations_to, sh_dc_from_rgb

LAYOUT = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def some(count: int = 5) -> Gaussians:
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return Gaussians(draw(count, 3), draw(count, 3), draw(count, 4), draw(count), draw(count, 3))


def test_a_round_trip_changes_no_bit():
    before = some()
    after = Gaussians.from_ply(before.to_ply())
    for name in ("means_N3", "log_scales_N3", "rotations_N4", "opacity_logits_N", "sh_dc_N3"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert after.to_ply() == before.to_ply()


def test_the_layout_is_the_one_that_viewers_read():
    gaussians = some(2)
    header, body = gaussians.to_ply().split(b"end_header\n", 1)
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 2",
        *(f"property float {name}" for name in LAYOUT),
    ]
    row = np.frombuffer(body, "<f4")[:17]
    np.testing.assert_array_equal(row[:3], gaussians.means_N3[0])
    np.testing.assert_array_equal(row[3:6], 0)
    np.testing.assert_array_equal(row[13:], gaussians.rotations_N4[0])


def test_further_harmonics_are_passed_over():
    lines = some(1).to_ply().replace(b"property float opacity", b"property float f_rest_0\nproperty float opacity")
    header, body = lines.split(b"end_header\n", 1)
    widened = body[:36] + np.float32(7).tobytes() + body[36:]
    np.testing.assert_array_equal(
        Gaussians.from_ply(header + b"end_header\n" + widened).opacity_logits_N, some(1).opacity_logits_N
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "cut short"),
        (lambda data: data.replace(b"binary_little_endian", b"ascii"), "not a binary little-endian PLY"),
        (lambda data: data.replace(b"property float rot_3\n", b""), "lacks rot_3"),
        (lambda data: data.replace(b"float x", b"double x"), "float properties only, not 'double x'"),
        (lambda data: data.replace(b"element vertex", b"element face"), "one element, vertex"),
        (lambda data: b"", "not a binary"),
    ],
)
def test_a_damaged_file_is_bad_input(damage, message):
    with pytest.raises(BadInput, match=message):
        Gaussians.from_ply(damage(some().to_ply()))


def test_colours_come_back_from_the_harmonics():
    rgb = np.array([[0.0, 0.25, 1.0]], np.float32)
    np.testing.assert_allclose(0.5 + SH_C0 * sh_dc_from_rgb(rgb), rgb, atol=1e-6)


def test_rotations_turn_z_onto_the_normal():
    normals = np.random.default_rng(1).normal(size=(50, 3))
    normals = np.concatenate([normals, [[0, 0, 1], [0, 0, -1]]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    w, x, y, z = rotations_to(normals.astype(np.float32)).T.astype(np.float64)
    turned = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x**2 + y**2)], axis=1)
    np.testing.assert_allclose(turned, normals, atol=1e-5)
    np.testing.assert_allclose(w**2 + x**2 + y**2 + z**2, 1, atol=1e-6)

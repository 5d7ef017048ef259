from pathlib import Path

import numpy as np
import pytest

from models.encoders import dct
from models.onnx import Machine

RNG = np.random.default_rng(0)


def encoder(grid: int = 2) -> dct.DctEncoder:
    return dct.create(dct.Params(grid=grid), Machine(Path()))


def opaque(rgb: np.ndarray) -> np.ndarray:
    return np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1)


def test_the_basis_is_orthonormal():
    basis = dct.zigzag_basis(14)
    np.testing.assert_allclose(basis @ basis.T, np.eye(196), atol=1e-12)


def test_the_basis_matches_scipys_dct():
    from scipy.fft import dctn

    patch = RNG.random((14, 14))
    spectrum = dctn(patch, norm="ortho")
    zigzag = (0, 0), (0, 1), (1, 0), (2, 0), (1, 1), (0, 2)
    coefficients = dct.zigzag_basis(14) @ patch.ravel()
    np.testing.assert_allclose(coefficients[:6], [spectrum[place] for place in zigzag])


def test_energy_is_kept_and_the_transform_inverts():
    basis, patch = dct.zigzag_basis(14), RNG.random(196)
    coefficients = basis @ patch
    assert np.square(coefficients).sum() == pytest.approx(np.square(patch).sum())
    np.testing.assert_allclose(basis.T @ coefficients, patch, atol=1e-12)


def test_a_constant_image_has_only_dc():
    tokens = encoder().encode(opaque(np.full((1, 28, 28, 3), 51, np.uint8)))
    planes = tokens.reshape(2, 2, 4, 96).astype(np.float64)
    np.testing.assert_allclose(planes[..., :3, 0], 14 * 0.2, atol=2e-3)
    np.testing.assert_allclose(planes[..., 3, 0], 14)
    assert np.abs(planes[..., 1:]).max() < 1e-6


def test_a_transparent_patch_is_the_zero_token_whatever_its_colour():
    image = np.zeros((1, 28, 28, 4), np.uint8)
    image[..., :3] = 200
    image[:, :14, :14, 3] = 255
    tokens = encoder().encode(image)
    assert tokens[0, 0, 0].any()
    assert not tokens[0, 0, 1].any() and not tokens[0, 1].any()


def test_a_black_object_differs_from_nothing():
    assert encoder().encode(opaque(np.zeros((1, 28, 28, 3), np.uint8))).any()


def test_tokens_lie_where_their_patch_lies():
    image = np.zeros((1, 42, 42, 4), np.uint8)
    image[0, 14:28, 28:42] = 255
    lit = encoder(3).encode(image)[0].any(axis=-1)
    assert list(zip(*np.nonzero(lit), strict=True)) == [(1, 2)]


def test_a_smooth_image_is_rebuilt_from_its_tokens():
    rows, columns = np.mgrid[:28, :28] / 28
    smooth = np.stack([rows, columns, (rows + columns) / 2], axis=-1) * 255
    image = opaque(smooth.astype(np.uint8)[None])
    tokens = encoder().encode(image).reshape(2, 2, 4, 96).astype(np.float64)
    patches = (tokens @ dct.zigzag_basis(14)[:96]).reshape(2, 2, 4, 14, 14)
    rebuilt = patches.transpose(0, 3, 1, 4, 2).reshape(28, 28, 4)
    assert np.abs(rebuilt * 255 - image[0]).max() < 2


def test_the_default_has_the_shape_of_a_small_dinov2_at_224_px():
    encoded = dct.create(dct.Params(), Machine(Path())).encode(RNG.integers(0, 256, (2, 224, 224, 4), np.uint8))
    assert encoded.shape == (2, 16, 16, 384) and encoded.dtype == np.float16


def test_batching_does_not_change_a_token():
    images = RNG.integers(0, 256, (3, 56, 56, 4), np.uint8)
    alone = np.concatenate([encoder(4).encode(image[None]) for image in images])
    np.testing.assert_array_equal(encoder(4).encode(images), alone)

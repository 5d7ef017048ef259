"""The lowest frequencies of each patch: a fixed basis, no weights, the same 384 channels as DINOv2 ViT-S/14.

Each 14 px patch of the image premultiplied on black gives 4 planes (R, G, B, alpha, all in [0, 1]) times the 96 lowest
of its 196 orthonormal DCT-II coefficients in zig-zag order; channel = plane * 96 + rank. Alpha has its own plane, so a
black object differs from none. A transparent patch is the zero token; a constant plane c has DC 14 c and nothing else.
It describes appearance, not meaning: honest as an offline default, no rival of a trained encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models import crop
from models.onnx import Machine
from models.params import Block

PATCH_PX = 14
NUM_PLANES = 4
NUM_COEFFICIENTS = 96


class Params(Block):
    grid: int = Field(16, ge=1, le=64)
    """Patches along a side; the image is resized to 14 times as many pixels."""


def weights(params: Params, workspace: Path) -> Sequence[Path]:
    return ()


def create(params: Params, machine: Machine) -> DctEncoder:
    return DctEncoder(params.grid)


class DctEncoder:
    id = "dct-14-96x4"
    channels = NUM_PLANES * NUM_COEFFICIENTS
    num_prefix_tokens = 0
    licence = None

    def __init__(self, grid: int) -> None:
        self.grid = grid
        self._basis_PK = zigzag_basis(PATCH_PX)[:NUM_COEFFICIENTS].T

    def encode(self, rgba_BHW4: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Tokens (B, grid, grid, 384). Summed in float64, so that float16 rounds alike on every machine."""
        grid = self.grid
        sized_BSS4 = np.stack([crop.resize(rgba, grid * PATCH_PX) for rgba in rgba_BHW4])
        split = sized_BSS4.reshape(-1, grid, PATCH_PX, grid, PATCH_PX, NUM_PLANES).transpose(0, 1, 3, 5, 2, 4)
        patches_BGG4P = split.reshape(-1, grid, grid, NUM_PLANES, PATCH_PX**2) / 255.0
        patches_BGG4P[..., :3, :] *= patches_BGG4P[..., 3:, :]
        coefficients = patches_BGG4P @ self._basis_PK
        return coefficients.reshape(-1, grid, grid, self.channels).astype(np.float16)


def zigzag_basis(size: int) -> npt.NDArray[np.float64]:
    """The orthonormal 2D DCT-II of size x size patches: (size^2, size^2), one basis image a row, low to high."""
    index = np.arange(size)
    cosines = np.cos(np.pi * (2 * index[None, :] + 1) * index[:, None] / (2 * size)) * np.sqrt(2 / size)
    cosines[0] /= np.sqrt(2)
    images = np.einsum("uy,vx->uvyx", cosines, cosines).reshape(size**2, size**2)
    order = sorted(range(size**2), key=lambda k: _zigzag_rank(k // size, k % size))
    ordered: npt.NDArray[np.float64] = images[order]
    return ordered


def _zigzag_rank(row: int, column: int) -> tuple[int, int]:
    """By anti-diagonal, whose direction alternates, as in JPEG."""
    diagonal = row + column
    return diagonal, row if diagonal % 2 else column

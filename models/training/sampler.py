"""Randomness by counters: every draw is a pure function of (seed, epoch, item), on any device and in any process.

Nothing has to be saved to resume, an item's draws depend neither on its batch nor on its rank, and CPU and CUDA draw
the same bits.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
"""SplitMix64's increment: 2^64 over the golden ratio (Steele, Lea and Flood 2014)."""


def permutation(num_items: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of an epoch's items."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_items)


def steps_per_epoch(num_items: int, batch_size: int) -> int:
    return -(-num_items // min(batch_size, num_items))


def batch_indices(num_items: int, batch_size: int, step: int, *, seed: int) -> npt.NDArray[np.int64]:
    """The items of a step, counted from 0 over all epochs. An epoch's last batch is filled up from its beginning."""
    batch_size = min(batch_size, num_items)
    epoch, position = divmod(step, steps_per_epoch(num_items, batch_size))
    order = permutation(num_items, seed=seed, epoch=epoch)
    return order[np.arange(position * batch_size, (position + 1) * batch_size) % num_items]


def uniforms(item_B: torch.Tensor, shape: tuple[int, ...], *, seed: int, epoch: int, stream: int) -> torch.Tensor:
    """float32 numbers in [0, 1) of shape (B, *shape), on the device of the int64 item numbers.

    stream: what the draw is for; a student numbers its own from 1. Streams of one item are independent.
    """
    count_K = torch.arange(math.prod(shape), device=item_B.device)
    bits_BK = _mix(_base(item_B, seed, epoch, stream)[:, None] + count_K * _signed(_GOLDEN))
    return _unit(bits_BK).reshape(len(item_B), *shape)


def uniforms_at(
    item_X: torch.Tensor, position_X: torch.Tensor, num: int, *, seed: int, epoch: int, stream: int
) -> torch.Tensor:
    """float32 numbers in [0, 1) of shape (X, num) for ragged data: of element `position_X` (int64) of item `item_X`.

    An element's numbers are those of row `position` of `uniforms(item, (rows, num))`, however many rows an item has.
    """
    count_XK = position_X[:, None] * num + torch.arange(num, device=item_X.device)
    return _unit(_mix(_base(item_X, seed, epoch, stream)[:, None] + count_XK * _signed(_GOLDEN)))


def normals(item_B: torch.Tensor, shape: tuple[int, ...], *, seed: int, epoch: int, stream: int) -> torch.Tensor:
    """float32 standard normal numbers of shape (B, *shape), by Box and Muller's transform of `uniforms`.

    CPU and CUDA agree up to the last bits of their logarithms and cosines.
    """
    pairs = uniforms(item_B, (2, *shape), seed=seed, epoch=epoch, stream=stream)
    radius, angle = (-2 * torch.log1p(-pairs[:, 0])).sqrt(), 2 * math.pi * pairs[:, 1]
    return radius * angle.cos()


def _base(item_B: torch.Tensor, seed: int, epoch: int, stream: int) -> torch.Tensor:
    return _mix(item_B + _signed(_mix_int(_mix_int(_mix_int(seed) + epoch) + int(stream))))


def _unit(bits: torch.Tensor) -> torch.Tensor:
    """The upper 24 of 64 bits as float32 in [0, 1)."""
    return _shift(bits, 40).float() * 2.0**-24


def _mix(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser, in int64 arithmetic that wraps."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _mix_int(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return (x ^ (x >> 31)) + _GOLDEN & _MASK


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x

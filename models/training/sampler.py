"""Randomness by counters: every draw is a pure function of (seed, epoch, item), on any device and in any process.

Nothing has to be saved to resume, an item's draws depend neither on its batch nor on its rank, and CPU and CUDA draw
the same bits.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch

_MASK = (1 << 64) - 1


class Stream(IntEnum):
    """What a draw is for: streams of one item are independent."""

    SURFACE = 1
    SUBSET = 2
    VIEWS = 3


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


def uniforms(item_B: torch.Tensor, shape: tuple[int, ...], *, seed: int, epoch: int, stream: Stream) -> torch.Tensor:
    """float32 numbers in [0, 1) of shape (B, *shape), on the device of the int64 item numbers."""
    base_B = _mix(item_B + _signed(_mix_int(_mix_int(_mix_int(seed) + epoch) + int(stream))))
    count = torch.arange(int(np.prod(shape)), device=item_B.device)
    bits = _mix(base_B[:, None] + count * _signed(0x9E3779B97F4A7C15))
    return (_shift(bits, 40).float() * 2.0**-24).reshape(len(item_B), *shape)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser, in int64 arithmetic that wraps."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _mix_int(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return (x ^ (x >> 31)) + 0x9E3779B97F4A7C15 & _MASK


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x

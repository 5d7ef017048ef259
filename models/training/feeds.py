"""How examples reach the device: resident, all of them read once, or streamed, a few steps ahead. Equal bits.

Order and randomness are functions of (seed, epoch, index) and come from outside; a feed only fetches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from models.training.trainable import Batch, Example, Examples, Trainable

Mode = Literal["auto", "resident", "streamed"]
READERS = 4
"""Threads that read ahead: reading waits for disks and decoders, which hold no interpreter lock."""
Indices = npt.NDArray[np.int64]


class Feed(Protocol):
    """Collated examples by their numbers, on the device; itself `Examples` for `Trainable.calibrate`."""

    waited_s: float
    """Seconds that `batch` waited for data."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...

    def batch(self, index_B: Indices) -> Batch: ...

    def expect(self, indices: Iterable[int]) -> None:
        """These examples come next; others may be forgotten."""
        ...

    def close(self) -> None: ...


def open_feed(
    examples: Examples,
    student: Trainable,
    device: torch.device,
    mode: Mode,
    memory_bytes: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Feed:
    """auto: resident where all examples, each as large as the first, take at most `memory_bytes`."""
    if mode == "auto":
        mode = "resident" if len(examples) * size_of(examples[0]) <= memory_bytes else "streamed"
    if mode == "resident":
        return Resident(examples, student, device, progress)
    return Streamed(examples, student, device)


def size_of(example: Example) -> int:
    """Bytes of an example's tensors."""
    return sum(tensor.nbytes for tensor in example.values())


class Resident:
    """All examples on the device. Equal shapes are kept stacked, so that a batch is one gather a tensor."""

    def __init__(
        self, examples: Examples, student: Trainable, device: torch.device, progress: Callable[[str], None]
    ) -> None:
        self.waited_s = 0.0
        self._collate = student.collate
        self._examples: list[Example] = []
        for index in range(len(examples)):
            self._examples.append(_to(examples[index], device))
            if (index + 1) % 25 == 0:
                progress(f"reading item {index + 1}/{len(examples)}")
        self._stacked: Batch | None = None
        if type(student).collate is Trainable.collate:
            self._stacked = student.collate(self._examples)
            self._examples = [
                {name: tensor[index] for name, tensor in self._stacked.items()} for index in range(len(self._examples))
            ]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]

    def batch(self, index_B: Indices) -> Batch:
        if self._stacked is None:
            return self._collate([self._examples[index] for index in index_B])
        return {name: tensor[torch.from_numpy(index_B).to(tensor.device)] for name, tensor in self._stacked.items()}

    def expect(self, indices: Iterable[int]) -> None:
        """All of them are here."""

    def close(self) -> None:
        """Nothing is open."""


class Streamed:
    """Examples read by threads, those that are expected next and no others."""

    def __init__(self, examples: Examples, student: Trainable, device: torch.device) -> None:
        self.waited_s = 0.0
        self._examples, self._collate, self._device = examples, student.collate, device
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="examples")
        self._coming: dict[int, Future[Example]] = {}

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]

    def batch(self, index_B: Indices) -> Batch:
        started = time.monotonic()
        found = [self._read(int(index)).result() for index in index_B]
        self.waited_s += time.monotonic() - started
        return {name: self._to_device(tensor) for name, tensor in self._collate(found).items()}

    def expect(self, indices: Iterable[int]) -> None:
        wanted = list(dict.fromkeys(indices))
        self._coming = {index: self._read(index) for index in wanted}

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _read(self, index: int) -> Future[Example]:
        found = self._coming.get(index)
        return found if found is not None else self._pool.submit(self._examples.__getitem__, index)

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)


def free_bytes(device: torch.device) -> int:
    """Half of the memory that is free for a resident set: the other half is for networks and their gradients."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    import psutil

    return int(psutil.virtual_memory().available) // 2


def _to(example: Example, device: torch.device) -> Example:
    return {name: tensor.to(device) for name, tensor in example.items()}


class Listed:
    """Examples made of a sequence of anything by a function: `Listed(items, student.example)`."""

    def __init__(self, items: Sequence[object], make: Callable[..., Example]) -> None:
        self._items, self._make = items, make

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Example:
        return self._make(self._items[index])

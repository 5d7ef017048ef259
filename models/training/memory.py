"""Training in the memory there is: a batch that does not fit is split further, and what fitted is remembered.

Gradients are summed over the parts of a batch, so that losses stay those of the whole batch, up to rounding.
"""

from __future__ import annotations

import gc
import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from models.errors import OOM_CLASSES, ItemFailed, failure_class

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Exceeded:
    """How something ran out of memory. failure_class: oom_gpu, oom_host or oom_suspected. text: the error's words."""

    failure_class: str
    text: str
    detail: str

    def error(self, what: str) -> ItemFailed:
        """What to raise where nothing is left to split. what: what did not fit, and what to lower."""
        return ItemFailed(self.failure_class, f"out of memory {what} ({self.text})", self.detail)


def attempt(work: Callable[[], T]) -> T | Exceeded:
    """What `work` returns, or how it ran out of memory. All other errors are raised.

    The memory is free on return: the error is gone by then, whose traceback holds every tensor of its frames.
    """
    try:
        return work()
    except Exception as error:
        if failure_class(error) not in OOM_CLASSES:
            raise
        text = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        exceeded = Exceeded(failure_class(error), text, "".join(traceback.format_exception(error))[-4000:])
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    return exceeded


class Fit:
    """Parts into which a batch is split, and items that are validated at once: as asked for, until they do not fit.

    What was settled on is kept in `folder` by the device's name, so that a training that goes on there does not run
    out of memory again first.
    """

    FILE = "fit.json"

    def __init__(
        self, folder: Path, device: torch.device, *, batch: int, accumulate: int, validation_batch: int
    ) -> None:
        """batch: items of a step in this process, of which a part has at least one."""
        self._path = folder / self.FILE
        self._batch = batch
        self._device = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        settled = self._settled().get(self._device, {})
        self.accumulate: int = min(max(accumulate, settled.get("accumulate", 1)), batch)
        self.validation_batch: int = min(validation_batch, settled.get("validation_batch", validation_batch))
        self._num_exceeded = 0

    @property
    def micro_batch(self) -> int:
        """Items of the largest part."""
        return -(-self._batch // self.accumulate)

    def split_further(self, exceeded: Exceeded, step: int) -> str:
        """Half as many items at once, in twice as many parts; returns words about it. ItemFailed at one item."""
        before = self.micro_batch
        if before == 1:
            raise exceeded.error(
                f"at step {step} with a micro-batch of 1 item: take a smaller student, fewer points, or a device with "
                "more memory"
            )
        self.accumulate = min(2 * self.accumulate, self._batch)
        return self._settle(
            f"out of memory ({exceeded.failure_class}) at step {step}: micro-batch {before} -> {self.micro_batch} "
            f"items, accumulated over {self.accumulate} parts; the step is done again"
        )

    def validate_fewer(self, exceeded: Exceeded) -> str:
        """Half as many items are validated at once; returns words about it. ItemFailed at one item."""
        before = self.validation_batch
        if before == 1:
            raise exceeded.error(
                "in the validation of 1 item: take a smaller student, fewer validation points, or a device with more "
                "memory"
            )
        self.validation_batch = before // 2
        return self._settle(
            f"out of memory ({exceeded.failure_class}) in the validation: {before} -> {self.validation_batch} items at "
            "once; it is done again"
        )

    def figures(self) -> dict[str, Any]:
        """What was settled on, and how often memory was exceeded since the training was started or went on."""
        return {
            "micro_batch": self.micro_batch,
            "accumulate": self.accumulate,
            "validation_batch": self.validation_batch,
            "out_of_memory": self._num_exceeded,
        }

    def _settle(self, words: str) -> str:
        self._num_exceeded += 1
        log.warning("%s", words)
        settled = self._settled()
        settled[self._device] = {"accumulate": self.accumulate, "validation_batch": self.validation_batch}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(settled))
        temporary.replace(self._path)
        return words

    def _settled(self) -> dict[str, Any]:
        """What the file says, by device; a torn one says nothing."""
        try:
            settled: dict[str, Any] = json.loads(self._path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return settled

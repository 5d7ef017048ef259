"""What can go wrong with an item or with the machine; the item runner turns each into a class of the ledger.

Needs nothing but Python: teachers in environments of their own use it too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from typing import Any

MACHINE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
"""What any code may run into through no fault of the item: a full or read-only disk, a quota, no file handles left."""
_MACHINE_TEXTS = tuple(os.strerror(number) for number in sorted(MACHINE_ERRNOS))
"""How libraries whose errors carry no number (Rust, C++) tell the same."""

OOM_CLASSES = ("oom_gpu", "oom_host", "oom_suspected")

_GPU_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_GPU_MEMORY_SUSPECTED = ("CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_ALLOC_FAILED")
_GPU_LOST = (
    "GPU is lost",
    "fallen off the bus",
    "device-side hardware",
    "uncorrectable ECC",
    "no CUDA-capable device",
    "NVML: Unknown Error",
    "hipErrorNoDevice",
)
_GPU_ERRORS = ("CUDA error", "HIP error", "CUBLAS_STATUS", "CUDNN_STATUS", "cuda failed")


class BadInput(ValueError):
    """The item itself is at fault (corrupt, empty, too large). Trying again cannot help, so it is tried once."""


class EmptyOutput(RuntimeError):
    """A plug-in returned nothing usable (no surface, NaN) without raising."""


class Unavailable(RuntimeError):
    """A plug-in cannot run here. The message says what is missing and what to install or fetch.

    The environment is at fault: the items that need the plug-in are *blocked*, and none is charged an attempt.
    """


class BrokenMachine(RuntimeError):
    """The machine failed under an item (a GPU that is gone, a full disk). The item is not charged, the stage stops."""


class ItemFailed(RuntimeError):
    """An item failed where its class is known already: in a process that somebody watches.

    failure_class: one of the ledger's. detail: an excerpt of that process's log. figures: what was measured.
    """

    def __init__(
        self,
        failure_class: str,
        message: str,
        detail: str = "",
        exit_code: int | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.failure_class = failure_class
        self.detail = detail
        self.exit_code = exit_code
        self.figures = dict(figures or {})


def failure_class(error: BaseException) -> str:
    """The class of failure. torch's errors are known by name and text: torch is not imported here.

    A library may wrap what it met into an error of its own: where one of the causes is the machine's fault or a want of
    memory, so is the whole.
    """
    if isinstance(error, ItemFailed):
        return error.failure_class
    own, *causes = (_class_alone(link) for link in _chain(error))
    if "environment" in (own, *causes):
        return "environment"
    return own if own != "error" else next((kind for kind in causes if kind in OOM_CLASSES), "error")


def _class_alone(error: BaseException) -> str:
    """The class of an error, whatever caused it."""
    text = str(error)
    if isinstance(error, BadInput):
        return "bad_input"
    if isinstance(error, EmptyOutput):
        return "empty_output"
    if isinstance(error, MemoryError) or "can't allocate memory" in text or getattr(error, "errno", 0) == errno.ENOMEM:
        return "oom_host"
    if type(error).__name__ == "OutOfMemoryError" or any(sign in text for sign in _GPU_MEMORY):
        return "oom_gpu"
    if any(sign in text for sign in _GPU_MEMORY_SUSPECTED):
        return "oom_suspected"
    if isinstance(error, BrokenMachine) or any(sign in text for sign in (*_GPU_LOST, *_MACHINE_TEXTS)):
        return "environment"
    return "environment" if isinstance(error, OSError) and error.errno in MACHINE_ERRNOS else "error"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, what caused that."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def poisons(error: BaseException) -> bool:
    """Whether nothing that this process computes after the error can be trusted: an error of the GPU, or no memory."""
    return failure_class(error) in (*OOM_CLASSES, "environment") or any(sign in str(error) for sign in _GPU_ERRORS)

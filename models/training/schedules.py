"""Learning rates as factors of the peak: functions of (step from 0, number of steps, warm-up share)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

ScheduleName = Literal["cosine", "onecycle", "constant"]
LAST = 0.01
"""Of the cosine: its last factor."""
ONECYCLE_START, ONECYCLE_END, ONECYCLE_RISE = 1 / 25, 1 / 25 / 1e4, 0.3
"""The defaults of torch's OneCycleLR: first and last factor, share of the steps in which it rises."""


def cosine(step: int, num_steps: int, warmup_share: float) -> float:
    warmup = round(warmup_share * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(num_steps - warmup, 1)
    return LAST + (1 - LAST) * (1 + math.cos(math.pi * progress)) / 2


def onecycle(step: int, num_steps: int, warmup_share: float) -> float:
    """Two half cosines; the warm-up share is its own (ONECYCLE_RISE)."""
    peak, last = ONECYCLE_RISE * num_steps - 1, num_steps - 1
    if step < peak:
        return _half_cosine(ONECYCLE_START, 1.0, step / peak)
    return _half_cosine(1.0, ONECYCLE_END, (step - peak) / (last - peak))


def constant(step: int, num_steps: int, warmup_share: float) -> float:
    warmup = round(warmup_share * num_steps)
    return min((step + 1) / warmup, 1.0) if warmup else 1.0


SCHEDULES: dict[ScheduleName, Callable[[int, int, float], float]] = {
    "cosine": cosine,
    "onecycle": onecycle,
    "constant": constant,
}


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2

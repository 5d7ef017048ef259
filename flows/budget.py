"""How long a run may hand out work, given as time or money."""

from __future__ import annotations

import re
import time

from models.machine import num_gpus

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def deadline_of(budget: str, price_per_gpu_hour: float) -> float | None:
    """When a run that starts now is to stop, by time.monotonic; None for "", no budget.

    budget: "90s", "30m", "48h", "2d", or "200USD", which pays for every GPU of this machine. Raises ValueError.
    """
    if not budget:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]|(?i:USD))", budget.strip())
    if not match:
        raise ValueError(f"budget {budget!r}: write it as 90s, 30m, 48h, 2d or 200USD")
    amount, unit = float(match[1]), match[2]
    if unit in SECONDS:
        return time.monotonic() + amount * SECONDS[unit]
    if price_per_gpu_hour <= 0:
        raise ValueError(f"budget {budget}: set run.price_per_gpu_hour, what one GPU costs an hour")
    return time.monotonic() + 3600 * amount / (price_per_gpu_hour * max(1, num_gpus()))

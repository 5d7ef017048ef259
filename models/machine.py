"""Cores and GPUs of this machine; GPUs as the driver's management library (NVML) sees them."""

from __future__ import annotations

import functools
import os
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Any

MIB = 2**20


@functools.cache
def _nvml() -> Any:
    """The initialised library, or None. A process asks once."""
    if not Path("/dev/nvidiactl").exists():
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_gpus() -> int:
    """GPUs that a run may use: CUDA_VISIBLE_DEVICES (or HIP's) where it is set, else all that NVML or ROCm list."""
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        if (visible := os.environ.get(variable)) is not None:
            return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if (nvml := _nvml()) is not None:
        with suppress(nvml.NVMLError):
            return int(nvml.nvmlDeviceGetCount())
    return len(list(Path("/sys/class/drm").glob("renderD*/device/mem_info_vram_total")))


def visible_gpu(index: int) -> str:
    """What CUDA_VISIBLE_DEVICES must be for a process that is given the index-th GPU of `num_gpus`."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[index].strip() if visible else str(index)


def process_vram_mb(pids: Set[int]) -> float | None:
    """GPU memory that these processes hold together, over all GPUs; None without NVML."""
    if (nvml := _nvml()) is None:
        return None
    held = 0
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid in pids and process.usedGpuMemory is not None:
                    held += process.usedGpuMemory
    except nvml.NVMLError:
        return None
    return held / MIB

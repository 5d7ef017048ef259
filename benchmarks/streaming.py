"""Training on more than memory holds: examples streamed from a sparse file, against examples that are resident.

    python -m benchmarks.streaming [--gb 20] [--json]

Both trainings run in processes of their own, over examples of 2 MB: the streamed one over all of them, the resident one
over as many as 400 MB hold. Figures: seconds a step of both, their ratio, and the peak memory of the streamed one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.metric import Metric
from models.needs import Given
from models.training.engine import Job, train
from models.training.recipe import Recipe
from models.training.terms import Term, Terms
from models.training.trainable import Batch, Example, Moment, Trainable

EXAMPLE_BYTES = 2 << 20
RESIDENT_EXAMPLES = 200
STEPS = 60
BATCH = 8


class Enough(Exception):
    """Ends a training that has been timed."""


class SparseFile:
    """Examples by offset in a file that holds nothing: reading it costs what reading costs."""

    def __init__(self, path: Path, count: int) -> None:
        self._count = count
        self._descriptor = os.open(path, os.O_RDONLY)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        data = os.pread(self._descriptor, EXAMPLE_BYTES, index * EXAMPLE_BYTES)
        return {"tokens": torch.frombuffer(bytearray(data), dtype=torch.float16).reshape(-1, 256)}


class Pooled(Trainable):
    """A small network over the examples' tokens."""

    selects = (Metric("loss", "Loss"),)

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(256, 64), nn.GELU(), nn.Linear(64, 1))

    def example(self, item: Given) -> Example:
        raise AssertionError("examples come from a file")

    def forward(self, batch: Batch, moment: Moment) -> torch.Tensor:
        outputs: torch.Tensor = self.network(batch["tokens"].float())
        return outputs

    def loss(self, outputs: torch.Tensor, batch: Batch, moment: Moment) -> Terms:
        value = (outputs.mean(1) - 1).square().mean()
        return {"loss": Term(value, value)}

    def validate(self, batch: Batch, moment: Moment) -> Mapping[str, torch.Tensor]:
        return {"loss": self.forward(batch, moment).mean((1, 2))}


def measure_here(path: Path, count: int, mode: Any) -> dict[str, float]:
    """Seconds a step, once reading is under way, and the peak memory of this process."""
    times: list[float] = []
    student = Pooled()
    forward = student.forward

    def timed(batch: Batch, moment: Moment) -> torch.Tensor:
        times.append(time.perf_counter())
        if len(times) > STEPS:
            raise Enough
        return forward(batch, moment)

    student.forward = timed  # type: ignore[method-assign]
    recipe = Recipe(epochs=-(-STEPS * BATCH // count), batch_size=BATCH, checkpoint_every_steps=STEPS)
    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        train(student, SparseFile(path, count), None, recipe, Job(Path(folder), feed=mode))
    seconds = (times[-1] - times[5]) / (len(times) - 6)
    return {"seconds_a_step": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def measure(gb: float) -> dict[str, Any]:
    """Both trainings, each in a process of its own."""
    count = int(gb * 2**30) // EXAMPLE_BYTES
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples"
        with path.open("wb") as file:
            file.truncate(count * EXAMPLE_BYTES)
        found = {}
        for mode, number in (("resident", RESIDENT_EXAMPLES), ("streamed", count)):
            command = [sys.executable, "-m", "benchmarks.streaming", "--one", mode, str(path), str(number)]
            found[mode] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ratio = found["resident"]["seconds_a_step"] / found["streamed"]["seconds_a_step"]
    return {"gb": gb, **found, "streamed_speed_over_resident": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=20)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        mode, path, count = chosen.one
        print(json.dumps(measure_here(Path(path), int(count), mode)))
        return
    figures = measure(chosen.gb)
    if chosen.json:
        print(json.dumps(figures))
        return
    streamed = figures["streamed"]
    print(f"{figures['gb']:g} GB streamed: {streamed['peak_mb']:.0f} MB at most,", end=" ")
    print(f"{figures['streamed_speed_over_resident']:.2f} of the resident speed")


if __name__ == "__main__":
    main()

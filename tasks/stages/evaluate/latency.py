"""How long the student takes for one item. Times are never facts of a record: they lie in the stage's work folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.collections.files import write_atomically
from tasks.engine.stage import Json
from tasks.stages.evaluate.references import locked

NUM_WARM_UP = 3
NUM_RUNS = (10, 100)
"""Fewest and most runs that are timed."""
TIME_LIMIT_S = 2.0


def measure_once(path: Path, predict: Callable[[], object], *, facts: Mapping[str, Json], given: Sequence[str]) -> None:
    """Write p50 and p95 of `predict` with `facts` and `given` to the JSON file, unless it holds them for equal facts.

    One process measures, the others wait, so that they do not disturb it.
    """
    if _holds(path, facts):
        return
    with locked(path.with_suffix(".lock")):
        if _holds(path, facts):
            return
        seconds = _time(predict)
        p50_s, p95_s = np.quantile(seconds, [0.5, 0.95])
        figures = {"batch": 1, "from": list(given), "num_runs": len(seconds)}
        content = {**facts, **figures, "p50_s": float(p50_s), "p95_s": float(p95_s)}
        write_atomically(path, json.dumps(content, indent=2).encode())


def _holds(path: Path, facts: Mapping[str, Json]) -> bool:
    if not path.is_file():
        return False
    kept = json.loads(path.read_bytes())
    return all(kept.get(name) == value for name, value in facts.items())


def _time(predict: Callable[[], object]) -> list[float]:
    for _ in range(NUM_WARM_UP):
        predict()
    fewest, most = NUM_RUNS
    seconds: list[float] = []
    while len(seconds) < fewest or (len(seconds) < most and sum(seconds) < TIME_LIMIT_S):
        started = time.perf_counter()
        predict()
        seconds.append(time.perf_counter() - started)
    return seconds

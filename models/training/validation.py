"""The figures of the validation items under the weights that are in use."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from models.metric import Metric
from models.training.feeds import Feed
from models.training.trainable import Moment, Trainable


class Validator:
    """Means over the validation items, each over those that its metric applies to.

    Draws are fixed: equal weights give equal figures. selected: the first of the student's `selects` that any item has.
    """

    BATCH = 8
    """Items at once."""

    def __init__(self, student: Trainable, feed: Feed, seed: int) -> None:
        self._student, self._feed = student, feed
        self._selected: Metric | None = None

    @property
    def selected(self) -> Metric:
        assert self._selected is not None, "nothing was validated yet"
        return self._selected

    def select(self, name: str) -> None:
        """The metric that was selected before the training was interrupted."""
        self._selected = next(metric for metric in self._student.selects if metric.name == name)

    @torch.no_grad()
    def measure(self, batch: int, moment_of: Callable[[Any], Moment]) -> dict[str, float]:
        """The mean of each metric that any item has, `batch` items at once. ValueError where none decides."""
        figures: dict[str, list[torch.Tensor]] = defaultdict(list)
        every = np.arange(len(self._feed))
        parts = np.split(every, range(batch, len(every), batch))
        for number, part in enumerate(parts):
            self._feed.expect(index for later in parts[number : number + 2] for index in later)
            moment = moment_of(part)
            found = self._student.validate(self._student.prepare(self._feed.batch(part), moment), moment)
            for name, value_B in found.items():
                figures[name].append(value_B.double().cpu())
        means = {name: _mean(torch.cat(values)) for name, values in figures.items()}
        present = {name: mean for name, mean in means.items() if mean is not None}
        self._selected = self._choose(present)
        return present

    def _choose(self, present: Mapping[str, float]) -> Metric:
        for metric in self._student.selects:
            if metric.name in present:
                return metric
        names = ", ".join(metric.name for metric in self._student.selects)
        raise ValueError(f"no validation item has a figure that could select weights: {names}")


def is_better(figures: Mapping[str, float], best: Mapping[str, float], metric: Metric) -> bool:
    """Whether the metric is strictly better; a figure that is not finite never is."""
    now, before = figures[metric.name], best[metric.name]
    return math.isfinite(now) and (now < before if metric.better == "lower" else now > before)


def _mean(value_N: torch.Tensor) -> float | None:
    """Over the items that have one; None where none has."""
    there = ~value_N.isnan()
    return float(value_N[there].mean()) if there.any() else None

"""How sure a mean over few items is: percentile bootstrap over the items. Equal inputs give equal intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

NUM_RESAMPLES = 2_000
CONFIDENCE = 0.95
BLOCK = 1_000_000
"""Indices drawn at once: memory stays bounded however many items there are."""

Interval = tuple[float, float]


def mean_interval(values: Sequence[float], seed: int) -> Interval:
    """95 % interval of the mean. Raises ValueError without values."""
    values_N = np.asarray(values, np.float64)
    return _quantiles([values_N[picks_KN].mean(axis=1) for picks_KN in _resamples(len(values_N), seed)])


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float], seed: int) -> Interval:
    """95 % interval of mean(numerators) / mean(denominators), which are paired: two figures of the same N items."""
    top_N, bottom_N = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if len(top_N) != len(bottom_N):
        raise ValueError(f"{len(top_N)} numerators and {len(bottom_N)} denominators are not paired")
    picks = _resamples(len(top_N), seed)
    return _quantiles([top_N[picks_KN].mean(axis=1) / bottom_N[picks_KN].mean(axis=1) for picks_KN in picks])


def _resamples(num_items: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Indices (K, N) with replacement, NUM_RESAMPLES rows in all."""
    if num_items == 0:
        raise ValueError("no values to take an interval of")
    rng = np.random.default_rng(seed)
    rows = max(1, min(NUM_RESAMPLES, BLOCK // num_items))
    for start in range(0, NUM_RESAMPLES, rows):
        yield rng.integers(num_items, size=(min(rows, NUM_RESAMPLES - start), num_items))


def _quantiles(statistics: list[npt.NDArray[np.float64]]) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(statistics), [tail, 1 - tail])
    return float(low), float(high)

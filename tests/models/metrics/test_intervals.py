import tracemalloc

import numpy as np
import pytest

from models.metrics import intervals
from models.metrics.intervals import mean_interval, ratio_interval


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = list(np.random.default_rng(0).normal(5.0, 1.0, 400))
    low, high = mean_interval(values, 0)
    assert low == pytest.approx(np.mean(values) - 1.96 * 0.05, abs=0.01)
    assert high == pytest.approx(np.mean(values) + 1.96 * 0.05, abs=0.01)


def test_equal_inputs_give_equal_intervals() -> None:
    assert mean_interval([1, 2, 3], 7) == mean_interval([1, 2, 3], 7)


def test_one_value_is_its_own_interval() -> None:
    assert mean_interval([0.25], 0) == (0.25, 0.25)


def test_pairing_makes_a_constant_ratio_certain() -> None:
    values = [0.01, 0.5, 0.2, 0.03]
    assert ratio_interval([0.8 * value for value in values], values, 0) == pytest.approx((0.8, 0.8))


def test_the_ratio_is_that_of_the_means_and_not_the_mean_of_ratios() -> None:
    small, large = [0.1, 1.0] * 200, [1.0, 0.1] * 200  # the mean of their ratios is 5.05
    low, high = ratio_interval(small, large, 0)
    assert 0.8 < low < 1 < high < 1.25


def test_both_means_of_a_ratio_are_of_the_resampled_items() -> None:
    values = list(np.random.default_rng(0).uniform(0.1, 1, 30))
    low, high = ratio_interval(values, values, 0)
    assert low == high == 1


def test_how_many_resamples_are_drawn_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(0).normal(5.0, 1.0, 40))
    at_once = mean_interval(values, 0)
    monkeypatch.setattr(intervals, "BLOCK", 700 * len(values))  # does not divide the number of resamples
    assert mean_interval(values, 0) == at_once


def test_memory_does_not_grow_with_the_number_of_items() -> None:
    values = [1.0] * 5_000
    tracemalloc.start()
    mean_interval(values, 0)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 40e6  # all resamples at once would take 160 MB


def test_no_values_and_unpaired_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([], 0)
    with pytest.raises(ValueError, match="not paired"):
        ratio_interval([1, 2], [1], 0)

import numpy as np
import pytest

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


def test_no_values_and_unpaired_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([], 0)
    with pytest.raises(ValueError, match="not paired"):
        ratio_interval([1, 2], [1], 0)

import time

import pytest

from flows.budget import deadline_of


def hours_from_now(moment: float | None) -> float:
    assert moment is not None
    return (moment - time.monotonic()) / 3600


@pytest.mark.parametrize(("budget", "hours"), [("90s", 0.025), ("30m", 0.5), ("48h", 48), ("1.5d", 36)])
def test_a_budget_of_time(budget, hours):
    assert hours_from_now(deadline_of(budget, 0)) == pytest.approx(hours, abs=0.001)


@pytest.mark.parametrize(("gpus", "hours"), [(0, 100), (1, 100), (4, 25)])
def test_a_budget_of_money_pays_for_every_gpu_here(monkeypatch, gpus, hours):
    monkeypatch.setattr("flows.budget.num_gpus", lambda: gpus)
    for budget in ("200USD", "200 usd"):
        assert hours_from_now(deadline_of(budget, 2)) == pytest.approx(hours, abs=0.001)


def test_no_budget_is_no_deadline():
    assert deadline_of("", 2) is None


@pytest.mark.parametrize("budget", ["48", "h", "-5h", "nanUSD", "200EUR", "1e3USD"])
def test_what_is_no_budget_is_refused(budget):
    with pytest.raises(ValueError, match="write it as 90s, 30m, 48h, 2d or 200USD"):
        deadline_of(budget, 2)


def test_money_needs_a_price():
    with pytest.raises(ValueError, match=r"set run\.price_per_gpu_hour"):
        deadline_of("200USD", 0)

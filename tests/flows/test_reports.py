"""Reports that fail: said once, given up for a while, never in a stage's way."""

from __future__ import annotations

import httpx
import pytest

from flows import reports
from flows.reports import Reports


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reports, "time", clock)
    return clock


def refused() -> None:
    raise httpx.ConnectError("[Errno 111] Connection refused\nmore words")


def test_a_report_that_fails_is_said_once_and_none_is_tried_for_a_while(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sent = Reports()
    assert sent.send(lambda: 1) == 1
    assert sent.send(refused) is None
    assert sent.send(lambda: 2) is None
    clock.now += reports.PAUSE_S
    assert sent.send(refused) is None
    clock.now += reports.PAUSE_S
    assert sent.send(lambda: 3) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "Prefect's server cannot be told of the progress ([Errno 111] Connection refused); the run goes on"
    ]


def test_a_report_is_sent_once_and_may_take_seconds_only(clock: Clock) -> None:
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES

    def limits() -> tuple[int, float]:
        return PREFECT_CLIENT_MAX_RETRIES.value(), PREFECT_API_REQUEST_TIMEOUT.value()

    assert Reports().send(limits) == (0, reports.MOST_S)


def test_what_is_wrong_with_the_report_itself_is_not_hidden(clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError):
        Reports().send(lambda: 1 / 0)

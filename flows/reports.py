"""Reports to Prefect's server: what people may look at, which must neither stop a stage nor hold it up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_S = 10.0
"""What one report may take."""
PAUSE_S = 120.0
"""How long nothing is reported after one that failed."""


class Reports:
    """The reports of one run. One that fails is given up and said once; for a while none is tried then."""

    def __init__(self) -> None:
        self._paused_until = 0.0
        self._said = False

    def send(self, report: Callable[[], T]) -> T | None:
        """What the report gives; None where it failed or was not tried."""
        if time.monotonic() < self._paused_until:
            return None
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: MOST_S}):
                return report()
        except (httpx.HTTPError, PrefectException, OSError) as error:
            self._paused_until = time.monotonic() + PAUSE_S
            if not self._said:
                log.warning("Prefect's server cannot be told of the progress (%s); the run goes on", words_of(error))
            self._said = True
            return None


def words_of(error: Exception) -> str:
    """The first line of an error, its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

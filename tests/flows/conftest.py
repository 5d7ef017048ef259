"""One Prefect server for all tests that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows.server import OwnServer
from tests.support import make_workspace


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a server of the tests' own, to which flows that are run here report."""
    server = OwnServer(make_workspace(tmp_path_factory.mktemp("prefect")))
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    try:
        server.wait()
        with temporary_settings({PREFECT_API_URL: server.api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield server.api
    finally:
        server.stop()

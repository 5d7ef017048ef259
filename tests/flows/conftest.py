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
    from prefect import settings

    ours = {
        settings.PREFECT_API_URL: server.api,
        settings.PREFECT_LOGGING_TO_API_ENABLED: False,
        settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    try:
        server.wait()
        with settings.temporary_settings(ours):
            yield server.api
    finally:
        server.stop()

"""The server that docker/compose.yaml describes keeps its runs in Postgres; here a Postgres of the test's own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server import OwnServer
from tests.flows.api import post
from tests.support import make_workspace

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
USER = "postgres" if os.geteuid() == 0 else None
"""Postgres refuses to run as root."""


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty database on loopback."""
    folder = tmp_path_factory.mktemp("postgres")
    for path in [folder, *folder.parents[:2]]:
        path.chmod(0o755)
    if USER:
        shutil.chown(folder, USER)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    data = folder / "data"
    options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off -p {port}"
    pg_ctl = [str(PROGRAMS[-1] / "pg_ctl"), "--pgdata", str(data), "--wait"]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "user": USER, "cwd": folder}
    subprocess.run([*pg_ctl, "initdb", "--options", "--auth=trust --username=prefect"], **quiet)  # type: ignore[call-overload]
    subprocess.run([*pg_ctl, "start", "--log", str(folder / "log"), "--options", options], **quiet)  # type: ignore[call-overload]
    try:
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*pg_ctl, "stop", "--mode", "immediate"], **quiet)  # type: ignore[call-overload]


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAMS, reason="Postgres is not installed")
def test_a_flow_run_is_kept_in_postgres(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", postgres)
    workspace = make_workspace(tmp_path / "w")
    server = OwnServer(workspace)
    try:
        from prefect import flow, settings

        server.wait()
        ours = {settings.PREFECT_API_URL: server.api, settings.PREFECT_LOGGING_TO_API_ENABLED: False}
        with settings.temporary_settings(ours):
            flow(lambda: 42, name="answer")()
        runs = post(f"{server.api}/flow_runs/filter", {})
        assert [run["state"]["name"] for run in runs] == ["Completed"]
    finally:
        server.stop()
    assert not (workspace.root / ".lostwax" / "prefect" / "prefect.db").exists()

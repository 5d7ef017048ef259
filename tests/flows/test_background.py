from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.background import down, up
from flows.server import TOKEN, Running, get
from tests.flows.api import artifacts_of, post
from tests.support import ROOT, make_workspace


@contextmanager
def sleeper(**environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "120"], env=os.environ | environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_down_ends_what_carries_the_token_and_nothing_else(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w")
    with sleeper(**{TOKEN: "ours"}) as ours, sleeper(**{TOKEN: "another's"}) as other, sleeper() as stranger:
        processes = {"server": ours.pid, "worker": stranger.pid}  # a pid that another program was given since
        Running("http://127.0.0.1:1", "pool", "ours", processes).write(workspace)
        stopped = down(workspace)
        assert [line.split()[0] for line in stopped] == [str(ours.pid)]
        assert not psutil.pid_exists(ours.pid)
        assert other.poll() is None
        assert stranger.poll() is None
    assert not Running.file(workspace).exists()
    assert down(workspace) == []


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.background.STOP_LIMIT_S", 0.5)
    workspace = make_workspace(tmp_path / "w")
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, env=os.environ | {TOKEN: "deaf"})
    assert process.stdout is not None
    process.stdout.readline()
    Running("http://127.0.0.1:1", "pool", "deaf", {"server": process.pid}).write(workspace)
    down(workspace)
    assert not psutil.pid_exists(process.pid)


def test_a_chosen_port_that_is_taken_is_said_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} is taken by another program; choose another with --port"):
            up(workspace, port, lambda _: None)
    assert Running.read(workspace) is None


@pytest.mark.slow
def test_up_then_a_run_through_the_api_then_down(tmp_path: Path) -> None:
    """What `lostwax up` promises, end to end: about a minute."""
    workspace = make_workspace(tmp_path / "w")
    first = lostwax("up", "--workspace", workspace.root)
    url = match_url(first)
    try:
        assert "already running" in lostwax("up", "--workspace", workspace.root)
        deployment = get(f"{url}/api/deployments/name/distill/distill", timeout_s=10)
        assert deployment["parameters"] == {"workspace": str(workspace.root)}
        run = post(
            f"{url}/api/deployments/{deployment['id']}/create_flow_run",
            {"parameters": {"until": "ingest", "overrides": ["ingest.sources=[{source: generated, count: 2}]"]}},
        )
        assert finished(f"{url}/api/flow_runs/{run['id']}")["name"] == "Completed"
        shown = artifacts_of(f"{url}/api", run["id"])
        assert shown["ingest-progress"]["data"] == 100.0
        assert "| ingest | 2 | 2 | 2 |" in shown["summary"]["data"]
    finally:
        running = Running.read(workspace)
        lostwax("down", "--workspace", workspace.root)
    assert running is not None
    assert not any(psutil.pid_exists(pid) for pid in running.processes.values())


def lostwax(*arguments: str | Path) -> str:
    """What the command says; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from flows.cli import main; main()", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def match_url(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", text)
    assert found, text
    return found[0]


def finished(url: str) -> Any:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        state = get(url, timeout_s=30)["state"]
        if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return state
        time.sleep(0.5)
    raise TimeoutError(url)

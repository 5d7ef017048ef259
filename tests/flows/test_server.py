from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from flows.server import (
    START_LIMIT_S,
    Database,
    OwnServer,
    Running,
    api_of,
    get,
    prefect_environment,
    prefect_home,
    require_answer,
    running_api,
)
from tasks.engine.outcome import StageFailed
from tests.support import ROOT, make_workspace

STARTS_A_SERVER = """
import sys
from pathlib import Path
from flows.server import OwnServer
from tasks.workspace import Workspace
server = OwnServer(Workspace(Path(sys.argv[1])))
print(server._process.pid, flush=True)
sys.stdin.read()
"""


def test_a_server_of_ones_own_answers_until_it_is_stopped(prefect_api: str) -> None:
    assert get(f"{prefect_api}/health", timeout_s=10) is True


@pytest.mark.parametrize("after_s", [0.0, 4.0])
def test_a_server_of_ones_own_dies_with_its_command_even_when_that_is_killed(tmp_path: Path, after_s: float) -> None:
    workspace = make_workspace(tmp_path / "w")
    command = subprocess.Popen(
        [sys.executable, "-P", "-c", STARTS_A_SERVER, str(workspace.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert command.stdout is not None
    server = psutil.Process(int(command.stdout.readline()))
    time.sleep(after_s)
    command.kill()
    command.wait()
    assert server.wait(timeout=60) is None
    assert not server.is_running()


def test_a_server_that_cannot_start_is_a_failure_with_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "nonsense")
    server = OwnServer(make_workspace(tmp_path / "w"))
    with pytest.raises(StageFailed, match=r"server did not start: .*rror"):
        server.wait()


def test_a_server_of_ones_own_that_dies_is_started_again_at_the_same_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = OwnServer(make_workspace(tmp_path / "w"))
    try:
        server.wait()
        first = server._process
        first.kill()
        assert get(f"{server.api}/health", timeout_s=START_LIMIT_S) is True
        assert server._process.pid != first.pid
        assert "Prefect's server ended with exit code -9 and is started again; the run goes on" in caplog.text
    finally:
        server.stop()
    assert server._process.poll() is not None


def test_only_a_process_that_carries_the_token_counts_as_running(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w")
    assert running_api(workspace) is None
    Running("http://127.0.0.1:1", "pool", "a token", {"server": os.getpid()}).write(workspace)
    assert running_api(workspace) is None
    carrier = subprocess.Popen(["sleep", "60"], env=os.environ | {"LOSTWAX_UP": "a token"})
    try:
        Running("http://127.0.0.1:1", "pool", "a token", {"server": carrier.pid}).write(workspace)
        assert running_api(workspace) == "http://127.0.0.1:1/api"
    finally:
        carrier.send_signal(signal.SIGKILL)
        carrier.wait()
    assert running_api(workspace) is None


def test_a_damaged_server_file_means_that_nothing_runs(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w")
    Running.file(workspace).parent.mkdir(exist_ok=True)
    Running.file(workspace).write_text('{"url": "http')
    assert Running.read(workspace) is None


def test_a_database_whose_making_was_interrupted_is_made_anew_and_a_complete_one_is_taken_as_it_is(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path / "w")
    home = prefect_home(workspace)
    home.mkdir(parents=True)
    (home / "prefect.db").write_text("half made")
    interrupted = Database(workspace)
    assert interrupted.prepare() == {}
    assert not (home / "prefect.db").exists()
    (home / "prefect.db").write_text("made")
    interrupted.is_complete()
    assert Database(workspace).prepare()["PREFECT_API_DATABASE_MIGRATE_ON_START"] == "false"
    (home / "migrated").write_text("3.0.0")
    assert Database(workspace).prepare() == {}
    assert (home / "prefect.db").read_text() == "made"


def test_prefect_keeps_to_the_workspace_and_sends_nothing_home(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w")
    environment = prefect_environment(workspace)
    assert environment["PREFECT_HOME"] == str(workspace.root / ".lostwax" / "prefect")
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize(
    ("address", "api"),
    [
        ("http://gpu1:4200", "http://gpu1:4200/api"),
        ("http://gpu1:4200/", "http://gpu1:4200/api"),
        (" http://gpu1:4200/api/ ", "http://gpu1:4200/api"),
        (
            "https://api.prefect.cloud/api/accounts/1/workspaces/2",
            "https://api.prefect.cloud/api/accounts/1/workspaces/2",
        ),
    ],
)
def test_a_bare_address_leads_to_its_api_and_a_full_one_stays(address: str, api: str) -> None:
    assert api_of(address) == api


@pytest.mark.parametrize("address", ["localhost:4200", "127.0.0.1:4200/api", "http://", "ftp://gpu1/api", "gpu1"])
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(ValueError, match=r"is not the address of a Prefect server; write it as http://HOST:4200/api"):
        api_of(address)


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment that lead nowhere."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_a_proxy_of_the_environment_does_not_stand_before_this_machine(
    prefect_api: str, dead_proxy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get(f"{prefect_api}/health", timeout_s=10) is True
    require_answer(prefect_api)
    monkeypatch.setenv("no_proxy", "intranet.example")
    environment = prefect_environment(make_workspace(tmp_path / "w"))
    assert environment["no_proxy"] == environment["NO_PROXY"] == "intranet.example,127.0.0.1,localhost,::1"
    monkeypatch.setattr(os, "environ", environment)  # as Prefect's client in a run has it
    assert httpx.get(f"{prefect_api}/health").json() is True


def test_a_server_that_does_not_answer_is_named_with_the_reason(dead_proxy: None) -> None:
    with pytest.raises(StageFailed, match=r"no Prefect server answers at http://127\.0\.0\.1:9/api \(.*refused\)"):
        require_answer("http://127.0.0.1:9/api")
    with pytest.raises(StageFailed, match=r"at http://10\.9\.8\.7:4200/api \(.*, through the proxy of http_proxy\)"):
        require_answer("http://10.9.8.7:4200/api")


def test_a_proxy_that_prefect_cannot_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    monkeypatch.setattr("flows.server.find_spec", lambda _: None)
    with pytest.raises(
        ValueError, match=r"all_proxy names a SOCKS proxy, for which Prefect needs socksio: pip install"
    ):
        prefect_environment(make_workspace(tmp_path / "w"))

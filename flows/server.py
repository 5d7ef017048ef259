"""The Prefect server that a command talks to: the one `lostwax up` started here, or one of its own while it runs.

A server of one's own costs what importing it costs, so it is started before this process imports Prefect, and the
database it has brought up to date once is taken as it is the next time.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tasks.collections.files import write_atomically
from tasks.engine.outcome import StageFailed
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

TOKEN = "LOSTWAX_UP"  # noqa: S105  # the environment variable that marks what `up` started, and all it started in turn
START_LIMIT_S = 180.0
LOOK_EVERY_S = 2.0
MAX_RESTARTS = 3
STOP_LIMIT_S = 10.0
ANSWER_LIMIT_S = 10.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NOBODY_BEHIND = (502, 503, 504)
"""What a proxy answers for a server that it cannot reach."""
ONCE_MIGRATED = {"PREFECT_API_DATABASE_MIGRATE_ON_START": "false", "PREFECT_API_BLOCKS_REGISTER_ON_START": "false"}
WITHOUT_AUTOMATIONS = {
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
}


def prefect_home(workspace: Workspace) -> Path:
    """Prefect's settings and database of a workspace."""
    return workspace.root / ".lostwax" / "prefect"


def logs_dir(workspace: Workspace) -> Path:
    """Where servers and workers write their logs."""
    return workspace.root / ".lostwax" / "logs"


def prefect_environment(workspace: Workspace) -> dict[str, str]:
    """This process's environment for a Prefect of the workspace's own: nothing of the user's, nothing sent anywhere.

    What the user has set stays, but for the home, and for PYTHONSAFEPATH: no module of the workspace shadows ours. A
    proxy is for other machines: this one is added to NO_PROXY. Raises ValueError for a proxy that Prefect cannot use.
    """
    for scheme, proxy in urllib.request.getproxies().items():
        if proxy.startswith("socks") and find_spec("socksio") is None:
            raise ValueError(
                f"{scheme}_proxy names a SOCKS proxy, for which Prefect needs socksio: pip install socksio, or unset it"
            )
    defaults = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_CLI_COLORS": "false"}
    ours = {"PREFECT_HOME": str(prefect_home(workspace)), "PYTHONSAFEPATH": "1"}
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    no_proxy = ",".join([*([excepted] if excepted else []), *LOOPBACK])
    return defaults | os.environ | ours | {"no_proxy": no_proxy, "NO_PROXY": no_proxy}


def api_of(address: str) -> str:
    """The API at the address of a server: `/api` is added to a bare one. Raises ValueError for what is no address."""
    parts = urlsplit(address.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{address!r} is not the address of a Prefect server; write it as http://HOST:4200/api")
    return address.strip().rstrip("/") + ("" if parts.path.strip("/") else "/api")


def require_answer(api: str) -> None:
    """Return if a server answers there, with whatever. Raises StageFailed naming it where none does."""
    try:
        get(f"{api}/health", ANSWER_LIMIT_S)
    except urllib.error.HTTPError as error:
        if error.code in NOBODY_BEHIND:
            raise _no_answer(api, error) from error
    except (OSError, ValueError) as error:
        raise _no_answer(api, getattr(error, "reason", error)) from error


def _no_answer(api: str, reason: object) -> StageFailed:
    parts = urlsplit(api)
    proxied = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or "")
    through = f", through the proxy of {parts.scheme}_proxy" if proxied and parts.hostname not in LOOPBACK else ""
    return StageFailed(
        f"no Prefect server answers at {api} ({reason}{through}); `lostwax up` starts one here, "
        "PREFECT_API_URL or --api names another"
    )


@dataclass(frozen=True)
class Running:
    """What `lostwax up` left running: .lostwax/server.json. token: in the environment of all of it."""

    url: str
    pool: str
    token: str
    processes: dict[str, int]

    @staticmethod
    def file(workspace: Workspace) -> Path:
        return workspace.root / ".lostwax" / "server.json"

    @staticmethod
    def read(workspace: Workspace) -> Running | None:
        """What was written down, alive or not."""
        try:
            found = json.loads(Running.file(workspace).read_text())
            return Running(found["url"], found["pool"], found["token"], found["processes"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, workspace: Workspace) -> None:
        Running.file(workspace).parent.mkdir(exist_ok=True)
        content = {"url": self.url, "pool": self.pool, "token": self.token, "processes": self.processes}
        write_atomically(Running.file(workspace), json.dumps(content, indent=1).encode() + b"\n")

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    def alive(self, name: str) -> bool:
        """Whether the process is there and is ours: a pid that now belongs to another does not count."""
        pid = self.processes.get(name)
        try:
            return pid is not None and psutil.Process(pid).environ().get(TOKEN) == self.token
        except psutil.Error:
            return False


def running_api(workspace: Workspace) -> str | None:
    """The API of the server that `lostwax up` keeps running for this workspace, or None."""
    running = Running.read(workspace)
    return running.api if running and running.alive("server") else None


class OwnServer:
    """A server for this process alone: on loopback, without a UI, gone when this process is, however it ends.

    Its listening socket is bound and kept here: no port is guessed, and a request made too early waits in the socket's
    queue. So it does while a server that died is started again.
    """

    def __init__(self, workspace: Workspace) -> None:
        logs_dir(workspace).mkdir(parents=True, exist_ok=True)
        self._log = logs_dir(workspace) / "own-server.log"
        self._database = Database(workspace)
        self._environment = prefect_environment(workspace) | WITHOUT_AUTOMATIONS | self._database.prepare()
        self._folder = workspace.root
        self._log.unlink(missing_ok=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.api = f"http://127.0.0.1:{self._listening.getsockname()[1]}/api"
        self._is_stopped = False
        self._changing = threading.Lock()
        self._process = self._start()

    def wait(self) -> None:
        """Return once it answers. Raises StageFailed with the end of its log."""
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise StageFailed(f"Prefect's server did not start: {tail(self._log) or f'nothing in {self._log}'}")
        self._database.is_complete()
        threading.Thread(target=self._keep_running, daemon=True).start()

    def stop(self) -> None:
        """Close the pipe it lives by; returns when it has written what it had and ended."""
        with self._changing:
            self._is_stopped = True
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listening.close()

    def _start(self) -> subprocess.Popen[bytes]:
        descriptor = self._listening.fileno()
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "flows.serve", str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                pass_fds=[descriptor],
                start_new_session=True,  # Ctrl-C is for the stage; the server must live to hear how it ended
            )

    def _answers(self) -> bool:
        try:
            return get(f"{self.api}/health", timeout_s=LOOK_EVERY_S) is True
        except (OSError, ValueError):
            return False

    def _keep_running(self) -> None:
        """Start it again when it dies, a few times; then requests are refused, so that nobody waits for it."""
        for _ in range(MAX_RESTARTS):
            code = self._process.wait()
            with self._changing:
                if self._is_stopped:
                    return
                log.warning("Prefect's server ended with exit code %s and is started again; the run goes on", code)
                self._process = self._start()
        self._process.wait()
        self._listening.close()


class Database:
    """The workspace's SQLite database of Prefect, and a note of the version that brought it up to date.

    It holds the history of runs and nothing that results depend on.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._file = prefect_home(workspace) / "prefect.db"
        self._note = prefect_home(workspace) / "migrated"
        self._elsewhere = "PREFECT_API_DATABASE_CONNECTION_URL" in os.environ

    def prepare(self) -> dict[str, str]:
        """Before a server starts: its settings. Waits for another that is starting here.

        A database whose making was interrupted cannot be mended, and goes.
        """
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._starting = self._note.with_name("starting.lock").open("w")
        fcntl.flock(self._starting, fcntl.LOCK_EX)
        if self._elsewhere:
            return {}
        if not self._note.is_file():
            for path in self._file.parent.glob("prefect.db*"):
                path.unlink()
            return {}
        up_to_date = self._file.is_file() and self._note.read_text() == version("prefect")
        return ONCE_MIGRATED if up_to_date else {}

    def is_complete(self) -> None:
        """After a server has started: note that it was brought up to date, and let others start."""
        if not self._elsewhere:
            self._note.write_text(version("prefect"))
        self._starting.close()


def get(url: str, timeout_s: float) -> Any:
    """The JSON at an http URL of a server; no proxy stands between this machine and itself.

    Raises OSError (urllib's errors are), ValueError for what is no JSON.
    """
    own = urlsplit(url).hostname in LOOPBACK
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if own else []))
    with opener.open(url, timeout=timeout_s) as response:
        return json.load(response)


def tail(log: Path, num_lines: int = 5) -> str:
    """The end of a log file on one line; empty where there is none."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return " | ".join(line.strip() for line in lines[-num_lines:] if line.strip())

"""`lostwax up` and `lostwax down`: a server and a worker on this machine that outlive the command.

All that `up` starts, and all that is started by it in turn, carries a token in its environment. `down` ends what
carries the token and nothing else: a pid that has been given to another process since is safe.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.deployment import POOL, PREFECT, deploy, worker_command, worker_environment
from flows.server import START_LIMIT_S, TOKEN, Database, Running, get, logs_dir, tail
from tasks.engine.outcome import StageFailed
from tasks.workspace import Workspace

DEFAULT_PORT = 4200
STOP_LIMIT_S = 20.0
KILL_ROUNDS = 3
LOOK_EVERY_S = 0.2
ON_ONE_MACHINE = {"PREFECT_WORKER_QUERY_SECONDS": "2"}
"""One worker may ask its server often: a run starts within seconds."""


def up(workspace: Workspace, port: int | None, say: Callable[[str], None]) -> Running:
    """Bring up server, deployment and worker, or find them running.

    port: the server's; None takes 4200, or a free one where that is taken. Raises ValueError when a chosen port is
    taken, StageFailed with the end of a log when something does not start: what was started by then is stopped again.
    """
    with _one_at_a_time(workspace):
        before = Running.read(workspace)
        if before and all(before.alive(name) for name in ("server", "worker")):
            say(f"already running at {before.url}")
            return before
        if before:
            _end(before)
            say("cleared what was left of an earlier `up`")
            Running.file(workspace).unlink()
        chosen = _choose_port(port)
        try:
            return _start(workspace, chosen, secrets.token_hex(8), say)
        except BaseException:
            if started := Running.read(workspace):
                _end(started)
                Running.file(workspace).unlink()
            raise


def down(workspace: Workspace) -> list[str]:
    """Stop what `up` started, runs in progress included (they resume); returns what was stopped, a line each."""
    with _one_at_a_time(workspace):
        running = Running.read(workspace)
        if running is None:
            return []
        stopped = _end(running)
        Running.file(workspace).unlink()
        return stopped


def _start(workspace: Workspace, port: int, token: str, say: Callable[[str], None]) -> Running:
    database = Database(workspace)
    database.prepare()
    logs_dir(workspace).mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}"
    api = f"{url}/api"
    launch = Launcher(workspace, ON_ONE_MACHINE | worker_environment(workspace, api) | {TOKEN: token})
    Running(url, POOL, token, {}).write(workspace)  # before anything starts, so that `down` finds it whatever happens
    server = launch("server", [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)])
    Running(url, POOL, token, {"server": server.pid}).write(workspace)
    _wait_for("server", server, lambda: get(f"{api}/health", timeout_s=5) is True, launch.log("server"))
    database.is_complete()
    name = deploy(workspace, api)
    say(f"deployed {name} for {workspace.root}")
    worker = launch("worker", worker_command(POOL))
    running = Running(url, POOL, token, {"server": server.pid, "worker": worker.pid})
    running.write(workspace)
    pool = f"{api}/work_pools/{POOL}"
    _wait_for("worker", worker, lambda: get(pool, timeout_s=5)["status"] == "READY", launch.log("worker"))
    return running


@dataclass(frozen=True)
class Launcher:
    """Starts processes that outlive this one: sessions of their own, no terminal, a log each."""

    workspace: Workspace
    environment: dict[str, str]

    def __call__(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log(name).open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.workspace.root,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return logs_dir(self.workspace) / f"{name}.log"


def _wait_for(what: str, process: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StageFailed(f"the {what} ended with exit code {process.returncode}: {tail(log)} (all of it: {log})")
        try:
            if ready():
                return
        except OSError:
            pass  # not listening yet, or not yet ready to say
        time.sleep(LOOK_EVERY_S)
    raise StageFailed(f"the {what} was not ready after {START_LIMIT_S:.0f} s: {tail(log)} (all of it: {log})")


def _choose_port(port: int | None) -> int:
    if port is not None:
        if not _is_free(port):
            raise ValueError(f"port {port} is taken by another program; choose another with --port, or leave it out")
        return port
    if _is_free(DEFAULT_PORT):
        return DEFAULT_PORT
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free: int = probe.getsockname()[1]
        return free


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def _end(running: Running) -> list[str]:
    """Stop every process that carries the token; returns a line for each.

    Runs first, so that they seal what is finished and can say so; then the worker; the server last. Each is asked, and
    killed where that does not help.
    """
    found = list(_carriers(running.token))
    stopped = [f"{process.pid} {_name(process)}" for process in found]
    server, worker = running.processes.get("server"), running.processes.get("worker")
    runs = [process for process in found if _parent(process) == worker]
    others = [process for process in found if process.pid != server]
    for group in (runs, others, found):
        for process in group:
            _signal(process, signal.SIGTERM)
        psutil.wait_procs(group, timeout=STOP_LIMIT_S)
    for _ in range(KILL_ROUNDS):  # what is killed may have started something since it was listed
        left = list(_carriers(running.token))
        for process in left:
            _signal(process, signal.SIGKILL)
        psutil.wait_procs(left, timeout=1)
    return stopped


def _carriers(token: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TOKEN) == token:
                yield process
        except psutil.Error:
            continue  # it ended meanwhile, or is another user's: not ours


def _name(process: psutil.Process) -> str:
    try:
        words = process.cmdline()
    except psutil.Error:
        return "?"
    return " ".join(Path(word).name if word.startswith("/") else word for word in words)[:100]


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


@contextmanager
def _one_at_a_time(workspace: Workspace) -> Iterator[None]:
    """Two `up`s or `down`s of one workspace wait for each other."""
    folder = workspace.root / ".lostwax"
    folder.mkdir(exist_ok=True)
    with (folder / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""The deployment `distill/distill` of deployments/prefect.yaml: registered on a server, run by workers of a pool."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flows.server import api_of, prefect_environment, require_answer, running_api
from tasks.engine.outcome import StageFailed
from tasks.workspace import Workspace

POOL = "lostwax"
PREFECT = [sys.executable, "-P", "-m", "prefect"]


def find_api(workspace: Workspace, chosen: str | None = None) -> str:
    """The API of the server to talk to: the chosen one, PREFECT_API_URL, or the workspace's own. Raises ValueError."""
    api = chosen or os.environ.get("PREFECT_API_URL") or running_api(workspace)
    if not api:
        raise ValueError("no Prefect server: start one with `lostwax up`, or name one with --api http://HOST:4200/api")
    return api_of(api)


def deploy(workspace: Workspace, api: str, pool: str = POOL) -> str:
    """Register the deployment, and its pool where that is missing; returns the deployment's name.

    Runs take this workspace by default. Raises StageFailed with Prefect's own words.
    """
    ensure_pool(workspace, api, pool)
    file = str(deployment_file())
    environment = worker_environment(workspace, api) | {"LOSTWAX_WORKSPACE": str(workspace.root)}
    done = _prefect("deploy", "--prefect-file", file, "--name", "distill", "--pool", pool, environment=environment)
    if done.returncode != 0:
        raise StageFailed(f"`prefect deploy` failed on {api}: {_words(done)}")
    return "distill/distill"


def ensure_pool(workspace: Workspace, api: str, pool: str) -> None:
    """Make a process pool of that name, unless there is a pool of that name already. Raises StageFailed."""
    require_answer(api)
    done = _prefect("work-pool", "create", pool, "--type", "process", environment=worker_environment(workspace, api))
    if done.returncode != 0 and "already exists" not in _words(done):
        raise StageFailed(f"no work pool {pool!r} on {api}: {_words(done)}")


def run_worker(workspace: Workspace, api: str, pool: str = POOL) -> int:
    """A worker in the foreground; returns its exit code once it is stopped."""
    ensure_pool(workspace, api, pool)
    environment = worker_environment(workspace, api)
    return subprocess.run(worker_command(pool), cwd=workspace.root, env=environment, check=False).returncode


def worker_command(pool: str) -> list[str]:
    """What starts a worker of a process pool."""
    return [*PREFECT, "worker", "start", "--pool", pool, "--type", "process"]


def worker_environment(workspace: Workspace, api: str) -> dict[str, str]:
    """This process's environment, pointing Prefect at a server; runs inherit it from their worker."""
    return prefect_environment(workspace) | {"PREFECT_API_URL": api}


def deployment_file() -> Path:
    """The packaged prefect.yaml: in the wheel, or in a checkout's deployments/."""
    packaged = Path(__file__).parent / "defaults" / "prefect.yaml"
    return packaged if packaged.is_file() else Path(__file__).parent.parent / "deployments" / "prefect.yaml"


def _prefect(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [*PREFECT, "--no-prompt", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """The end of what Prefect said, on one line."""
    return " ".join((done.stdout + done.stderr).split())[-400:]

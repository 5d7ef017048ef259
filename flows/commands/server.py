"""`lostwax up`, `down`, `deploy` and `worker`: Prefect servers and workers."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.options import HERE, WorkspaceOption
from flows.commands.printing import say
from tasks.workspace import Workspace

POOL = "lostwax"
PoolOption = Annotated[str, typer.Option(help="The work pool.")]
ApiOption = Annotated[str | None, typer.Option(help="The server's API; by default PREFECT_API_URL, or what runs here.")]


def up(
    workspace: WorkspaceOption = HERE,
    port: Annotated[int | None, typer.Option(help="The server's port; by default 4200, or a free one.")] = None,
) -> None:
    """Start a Prefect server, the deployment and a worker on this machine. They go on after this command.

    Examples: lostwax up, lostwax up --port 4300
    """
    from flows.background import up as start

    running = start(Workspace.find(workspace), port, say)
    say(f"the UI: {running.url}; stop it all with `lostwax down`")


def down(workspace: WorkspaceOption = HERE) -> None:
    """Stop what `lostwax up` started, and nothing else. A run in progress stops as well; the next one resumes.

    Example: lostwax down
    """
    from flows.background import down as stop

    stopped = stop(Workspace.find(workspace))
    for line in stopped:
        say(f"stopped {line}")
    if not stopped:
        say("nothing to stop")


def deploy(workspace: WorkspaceOption = HERE, pool: PoolOption = POOL, api: ApiOption = None) -> None:
    """Register the flow for this workspace on a Prefect server, for the workers of a pool.

    Example: lostwax deploy --api http://HOST:4200/api
    """
    from flows.deployment import deploy as register
    from flows.deployment import find_api

    found = Workspace.find(workspace)
    address = find_api(found, api)
    say(f"{register(found, address, pool)} on {address}, for workers of {pool!r}")


def worker(workspace: WorkspaceOption = HERE, pool: PoolOption = POOL, api: ApiOption = None) -> None:
    """Run a worker of a pool here, until it is stopped.

    Example: lostwax worker --api http://HOST:4200/api
    """
    from flows.deployment import find_api, run_worker

    found = Workspace.find(workspace)
    raise typer.Exit(run_worker(found, find_api(found, api), pool))

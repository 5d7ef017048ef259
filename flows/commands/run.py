"""`lostwax run` and `repro`: the stages, under Prefect or under DVC."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.budget import deadline_of
from flows.commands.options import HERE, NONE, SetOption, WorkspaceOption
from tasks.engine.runner import run_order
from tasks.order import ORDER
from tasks.params import load_params
from tasks.versions import check_versions
from tasks.workspace import Workspace


def run(
    workspace: WorkspaceOption = HERE,
    until: Annotated[str | None, typer.Option(help="The last stage to run.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take at most this many items (an override).")] = None,
    budget: Annotated[str, typer.Option(help="Stop handing out work after 90s, 30m, 48h or 200USD.")] = "",
    overrides: SetOption = NONE,
    strict: Annotated[bool, typer.Option(help="Any failed item ends the run with exit code 3.")] = False,
) -> None:
    """Run the flow here and now; what is finished already is not computed again."""
    found = Workspace.find(workspace)
    run_order(ORDER, until)
    overrides = [*overrides, *([f"ingest.limit={limit}"] if limit is not None else [])]
    params = load_params(found.params_file, overrides)
    check_versions(found, params)
    stop_at = deadline_of(budget, params.run.price_per_gpu_hour)
    from flows.local import run_here

    raise typer.Exit(run_here(found, until=until, overrides=overrides, strict=strict, deadline=stop_at))


def repro(context: typer.Context, workspace: WorkspaceOption = HERE) -> None:
    """Run the stages under DVC: `dvc repro` with this environment's Python. Takes its arguments, too.

    Examples: lostwax repro, lostwax repro train, lostwax repro --dry -w shoes
    """
    from flows.dvc import repro as run_dvc

    raise typer.Exit(run_dvc(Workspace.find(workspace).root, context.args))

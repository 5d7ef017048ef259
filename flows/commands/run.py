"""`lostwax run` and `repro`: the stages, under Prefect or under DVC."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from flows.budget import deadline_of
from flows.commands.options import HERE, NONE, JsonOption, SetOption, WorkspaceOption
from flows.commands.printing import print_json
from tasks.engine.runner import run_order
from tasks.engine.standing import status
from tasks.order import ORDER
from tasks.params import load_params
from tasks.versions import check_versions
from tasks.workspace import Workspace


def run(
    workspace: WorkspaceOption = HERE,
    until: Annotated[str | None, typer.Option(help="The last stage to run: ingest, views, ... report.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take at most this many items.")] = None,
    budget: Annotated[str, typer.Option(help="Stop after 90s, 30m, 48h or 200USD; the next run resumes.")] = "",
    overrides: SetOption = NONE,
    strict: Annotated[bool, typer.Option(help="End with exit code 3 if any item failed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the stages in order, here and now. What is finished is not computed again.

    Examples: lostwax run, lostwax run --until teach --limit 20, lostwax run --set train.epochs=5 --budget 2h
    """
    found = Workspace.find(workspace)
    run_order(ORDER, until)
    overrides = [*overrides, *([f"ingest.limit={limit}"] if limit is not None else [])]
    params = load_params(found.params_file, overrides)
    params.check_device()
    check_versions(found, params)
    stop_at = deadline_of(budget, params.run.price_per_gpu_hour)
    from flows.local import run_here

    code = run_here(found, until=until, overrides=overrides, strict=strict, deadline=stop_at)
    if as_json:
        stages = [dataclasses.asdict(stage) for stage in status(found, run_order(ORDER, until))]
        print_json({"exit_code": code, "stages": stages})
    raise typer.Exit(code)


def repro(context: typer.Context, workspace: WorkspaceOption = HERE) -> None:
    """Run the stages under DVC: `dvc repro` with this environment's Python. It takes DVC's own arguments as well.

    Examples: lostwax repro, lostwax repro train, lostwax repro --dry -w shoes
    """
    from flows.dvc import repro as run_dvc

    raise typer.Exit(run_dvc(Workspace.find(workspace).root, context.args))

"""`lostwax explain`, `show` and `retry`: one item at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import HERE, NONE, JsonOption, WorkspaceOption, open_workspace
from flows.commands.printing import make_table, print_json, say, show_table
from tasks.engine.outcome import counted
from tasks.engine.runner import run_order
from tasks.order import ORDER
from tasks.workspace import Workspace


def explain(
    item: Annotated[str, typer.Argument(help="An item's id, the beginning of its id, or its label.")],
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show where one item stands at every stage, why, and what was tried.

    Examples: lostwax explain shoe07, lostwax explain 3f9a --json
    """
    from tasks.commands.items import explain as explanations
    from tasks.commands.items import find_item

    found, params, versions = open_workspace(workspace, NONE)
    item_id = find_item(found, item, ORDER)
    stages = explanations(found, params, versions, item_id, ORDER)
    if as_json:
        print_json({"id": item_id, "stages": [stage.to_json() for stage in stages]})
        return
    table = make_table("stage", "state", "why", "attempts", "quality", title=f"{item} ({item_id})")
    for stage in stages:
        attempts = ", ".join(str(attempt["outcome"]) for attempt in stage.attempts)
        table.add_row(stage.stage, stage.state, stage.why, attempts, short(stage.quality))
    show_table(table)


def show(
    item: Annotated[str, typer.Argument(help="An item's id, the beginning of its id, or its label.")],
    out: Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="A new folder to write to.")],
    workspace: WorkspaceOption = HERE,
) -> None:
    """Write all files of one item into a new folder, one subfolder for each stage.

    Example: lostwax show shoe07 -o /tmp/shoe07
    """
    from tasks.commands.items import find_item
    from tasks.commands.items import show as write

    found = Workspace.find(workspace)
    for path in write(found, find_item(found, item, ORDER), ORDER, out):
        say(str(path))


def retry(
    stage: Annotated[str, typer.Argument(help="The stage whose failed items are tried again.")],
    failure_class: Annotated[str | None, typer.Option("--class", help="Only items of this class of failure.")] = None,
    degraded: Annotated[bool, typer.Option(help="Instead of failed items: those made at reduced quality.")] = False,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Give failed items new attempts. The next run takes them up.

    Examples: lostwax retry teach, lostwax retry teach --class oom_gpu, lostwax retry teach --degraded
    """
    from tasks.commands.items import retry as reopen
    from tasks.commands.items import retry_degraded

    run_order(ORDER, stage)
    if degraded:
        num = retry_degraded(Workspace.find(workspace), stage)
        say(f"{counted(num)} of {stage} to be made again" if num else f"no item of {stage} was made with less")
        return
    num = reopen(Workspace.find(workspace), stage, failure_class)
    say(f"{counted(num)} of {stage} open again" if num else f"no item of {stage} is exhausted")


def short(quality: Any) -> str:
    """The first few figures of a record on one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in quality.items() if isinstance(value, int | float))

"""`lostwax gc` and `doctor`: keep a workspace small and sound."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from rich.text import Text

from flows.commands.options import HERE, JsonOption, WorkspaceOption
from flows.commands.printing import make_table, print_json, show_table
from tasks.engine.outcome import FAILED
from tasks.order import ORDER
from tasks.workspace import Workspace


def gc(
    workspace: WorkspaceOption = HERE,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete trials and results that newer ones have replaced, and merge small shards. What is published stays.

    Examples: lostwax gc --dry-run, lostwax gc
    """
    from tasks.commands.gc import collect, forget_trials

    found = Workspace.find(workspace)
    stages = [collect(found, name, dry_run=dry_run) for name in ORDER if found.items_file(name).is_file()]
    if not dry_run:
        forget_trials(found)
    if as_json:
        print_json({"stages": [dataclasses.asdict(stage) for stage in stages]})
        return
    table = make_table("stage", "kept", "would drop" if dry_run else "dropped", "MB freed", "took to make")
    for stage in stages:
        cost = f"{stage.seconds:.0f} s" if stage.dropped else ""
        table.add_row(stage.stage, str(stage.kept), str(stage.dropped), f"{stage.freed_mb:.1f}", cost)
    show_table(table)


def doctor(
    workspace: WorkspaceOption = HERE,
    verify: Annotated[bool, typer.Option(help="Also read every shard and compare its bytes with its name.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check this machine and the workspace. Every complaint says what to do.

    Examples: lostwax doctor, lostwax doctor --verify
    """
    from tasks.commands.doctor import examine

    checks = examine(workspace, verify=verify)
    if as_json:
        print_json({"checks": [dataclasses.asdict(check) for check in checks]})
    else:
        table = make_table("", "check", "found", "what to do")
        for check in checks:
            mark = Text("ok", style="green") if check.ok else Text("no", style="red")
            table.add_row(mark, check.name, check.found, check.remedy)
        show_table(table)
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)

"""`lostwax status`: where every stage stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from flows.commands.options import HERE, JsonOption, WorkspaceOption
from flows.commands.printing import make_table, print_json, say, show_table
from tasks.engine.outcome import some_of
from tasks.order import ORDER
from tasks.workspace import Workspace

MAX_REASONS, MAX_LABELS = 10, 3
"""How many reasons `status` prints, and how many items it names for each."""


def status(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Show where every stage stands, who is working on it, and what failed and why.

    Examples: lostwax status, lostwax status --json
    """
    from tasks.engine.standing import status as standings

    stages = standings(Workspace.find(workspace), ORDER)
    if as_json:
        print_json({"stages": [dataclasses.asdict(stage) for stage in stages]})
        return
    table = make_table("stage", "done", "of", "failures", "running", "last run")
    for stage in stages:
        failures = ", ".join(f"{count} {word}" for word, count in sorted(stage.failures.items()))
        last = f"{stage.last_run['at']}, exit {stage.last_run['exit_code']}" if stage.last_run else ""
        items = stage.items
        table.add_row(
            stage.stage, str(items.get("done", "-")), str(items.get("total", "-")), failures, stage.holder or "", last
        )
    show_table(table)
    for stage in stages:
        for line in [*failure_lines(stage.failed), *stage.notices]:
            say(f"{stage.stage}: {line}")


def failure_lines(failed: Iterable[Mapping[str, Any]]) -> list[str]:
    """What failed and why, the items that share a reason on one line; skipped ones are no failures."""
    labels: dict[str, list[str]] = {}
    for entry in failed:
        if entry["state"] != "skipped":
            labels.setdefault(f"{entry['class']}: {entry['message']}", []).append(entry["label"])
    lines = [f"{some_of(names, MAX_LABELS)}: {reason}" for reason, names in labels.items()]
    more = len(lines) - MAX_REASONS
    return [*lines[:MAX_REASONS], *([f"and {more} more reasons; --json has them all"] if more > 0 else [])]

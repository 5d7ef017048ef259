"""`lostwax plan`: what a run would compute."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.options import HERE, NONE, JsonOption, SetOption, WorkspaceOption, open_workspace
from flows.commands.printing import make_table, print_json, say, show_table
from tasks.engine.runner import run_order
from tasks.order import ORDER


def plan(
    workspace: WorkspaceOption = HERE,
    until: Annotated[str | None, typer.Option(help="The last stage to plan: ingest, views, ... report.")] = None,
    overrides: SetOption = NONE,
    as_json: JsonOption = False,
) -> None:
    """Say what a run would compute, why, and what it would cost. Nothing is computed.

    The first stage with work to do is exact. Stages after it show an upper bound (<=), as their inputs may change.

    Examples: lostwax plan, lostwax plan --set views.size_px=192 --until teach, lostwax plan --json
    """
    from tasks.commands.plan import forecast

    found, params, versions = open_workspace(workspace, overrides)
    forecasts = forecast(found, params, versions, run_order(ORDER, until))
    if as_json:
        print_json({"stages": [stage.to_json() for stage in forecasts]})
        return
    table = make_table(
        "stage", "items", "fresh", "stale", "missing", "exhausted", "skipped", "time", "GPU", "price", "disk", "why"
    )
    for stage in forecasts:
        bound = "" if stage.exact else "<= "
        time_text = "" if not stage.seconds else f"{bound}{duration(stage.seconds)}"
        disk_text = "" if not stage.disk_mb else f"{bound}{stage.disk_mb:.0f} MB"
        counts = [stage.total, stage.fresh, stage.stale, stage.missing, stage.exhausted, stage.skipped]
        cells = [str(stage.total), str(stage.fresh)]
        cells += [f"{bound}{count}" if count else "" for count in counts[2:4]]
        cells += [str(count) if count else "" for count in counts[4:]]
        gpu_text = "" if not stage.gpu_hours else f"{bound}{stage.gpu_hours:.2f} h"
        price_text = "" if not stage.price else f"{bound}{stage.price:.2f}"
        table.add_row(stage.stage, *cells, time_text, gpu_text, price_text, disk_text, "; ".join(stage.why[:3]))
    show_table(table)
    unknown = [stage.stage for stage in forecasts if stage.to_compute and stage.seconds is None]
    if unknown:
        say(f"no speed is known yet of: {', '.join(unknown)}; a run with --limit 5 measures them")
    for stage in forecasts:
        for notice in stage.notices:
            say(f"{stage.stage}: {notice}")


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

"""The `lostwax` command. Every command works from any folder with --workspace; tables take --json."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from flows.budget import deadline_of
from tasks.collections.holder import HeldByAnother
from tasks.engine.outcome import FAILED, HELD, STOPPED, WRONG_USAGE, StageFailed, counted, some_of
from tasks.engine.runner import run_order
from tasks.order import ORDER
from tasks.params import Params, load_params
from tasks.versions import check_versions
from tasks.workspace import Workspace, create

app = typer.Typer(
    help="lostwax: from heavyweight image-to-3D teachers to small, fast students.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
teacher_app = typer.Typer(help="Teachers: their environments, and a trial of one.", no_args_is_help=True)
app.add_typer(teacher_app, name="teacher")
WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", help="The workspace, or a folder in it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
SetOption = Annotated[list[str], typer.Option("--set", help="Override a parameter: block.name=value.")]
PoolOption = Annotated[str, typer.Option(help="The work pool.")]
ApiOption = Annotated[str | None, typer.Option(help="The server's API; by default PREFECT_API_URL, or what runs here.")]
HERE = Path()
POOL = "lostwax"
NONE: list[str] = []
MAX_REASONS, MAX_LABELS = 10, 3
"""How much of what failed `status` tells."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make a workspace.")] = HERE,
    dvc: Annotated[bool, typer.Option(help="Make it a DVC repository too.")] = True,
) -> None:
    """Make a workspace, or bring an old one up to date with this lostwax."""
    from flows.dvc_init import init_dvc

    written = create(folder) + (init_dvc(folder) if dvc else [])
    say(f"{folder}: " + (f"wrote {', '.join(written)}" if written else "up to date"))
    say(f"put meshes or photos into {folder / 'inbox'} (empty: generated objects), then `lostwax run -w {folder}`")


@app.command()
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
    check_versions(found)
    stop_at = deadline_of(budget, params.run.price_per_gpu_hour)
    from flows.local import run_here

    raise typer.Exit(run_here(found, until=until, overrides=overrides, strict=strict, deadline=stop_at))


@app.command()
def plan(
    workspace: WorkspaceOption = HERE,
    until: Annotated[str | None, typer.Option(help="The last stage to plan.")] = None,
    overrides: SetOption = NONE,
    as_json: JsonOption = False,
) -> None:
    """What a run would compute: exact for the first stage with work to do, an upper bound after it."""
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
        bound = "" if stage.exact else "≤ "
        time_text = "" if not stage.seconds else f"{bound}{duration(stage.seconds)}"
        disk_text = "" if not stage.disk_mb else f"{bound}{stage.disk_mb:.0f} MB"
        counts = [stage.total, stage.fresh, stage.stale, stage.missing, stage.exhausted, stage.skipped]
        cells = [str(stage.total), str(stage.fresh)]
        cells += [f"{bound}{count}" if count else "" for count in counts[2:4]]
        cells += [str(count) if count else "" for count in counts[4:]]
        gpu_text = "" if not stage.gpu_hours else f"{bound}{stage.gpu_hours:.2f} h"
        price_text = "" if not stage.price else f"{bound}{stage.price:.2f}"
        table.add_row(stage.stage, *cells, time_text, gpu_text, price_text, disk_text, "; ".join(stage.why[:3]))
    console().print(table)
    unknown = [stage.stage for stage in forecasts if stage.to_compute and stage.seconds is None]
    if unknown:
        say(f"no speed is known yet of: {', '.join(unknown)}; a run with --limit 5 measures them")


@app.command()
def status(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Where every stage stands, who works on it, and what failed and why."""
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
    console().print(table)
    for stage in stages:
        for line in failure_lines(stage.failed):
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


@app.command()
def explain(
    item: Annotated[str, typer.Argument(help="An id, its beginning, or a label.")],
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Where one item stands at every stage, why, and what was tried."""
    from tasks.commands.items import explain as explanations
    from tasks.commands.items import find_item

    found, params, versions = open_workspace(workspace, NONE)
    item_id = find_item(found, item)
    stages = explanations(found, params, versions, item_id, ORDER)
    if as_json:
        print_json({"id": item_id, "stages": [stage.to_json() for stage in stages]})
        return
    table = make_table("stage", "state", "why", "attempts", "quality", title=f"{item} ({item_id})")
    for stage in stages:
        attempts = ", ".join(str(attempt["outcome"]) for attempt in stage.attempts)
        table.add_row(stage.stage, stage.state, stage.why, attempts, short(stage.quality))
    console().print(table)


@app.command()
def show(
    item: Annotated[str, typer.Argument(help="An id, its beginning, or a label.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write to.")],
    workspace: WorkspaceOption = HERE,
) -> None:
    """Write all files of one item, stage by stage, to a folder."""
    from tasks.commands.items import find_item
    from tasks.commands.items import show as write

    found = Workspace.find(workspace)
    for path in write(found, find_item(found, item), ORDER, out):
        say(str(path))


@app.command()
def retry(
    stage: Annotated[str, typer.Argument(help="The stage whose failed items are re-opened.")],
    failure_class: Annotated[str | None, typer.Option("--class", help="Only this class of failure.")] = None,
    degraded: Annotated[bool, typer.Option(help="Instead: items made with less, at full quality again.")] = False,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Give exhausted items new attempts; the next run takes them up."""
    from tasks.commands.items import retry as reopen
    from tasks.commands.items import retry_degraded

    run_order(ORDER, stage)
    if degraded:
        num = retry_degraded(Workspace.find(workspace), stage)
        say(f"{counted(num)} of {stage} to be made again" if num else f"no item of {stage} was made with less")
        return
    num = reopen(Workspace.find(workspace), stage, failure_class)
    say(f"{counted(num)} of {stage} open again" if num else f"no item of {stage} is exhausted")


@app.command()
def gc(
    workspace: WorkspaceOption = HERE,
    dry_run: Annotated[bool, typer.Option(help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget superseded items and gather small shards. What is published stays."""
    from tasks.commands.gc import collect

    found = Workspace.find(workspace)
    stages = [collect(found, name, dry_run=dry_run) for name in ORDER if found.items_file(name).is_file()]
    if as_json:
        print_json({"stages": [dataclasses.asdict(stage) for stage in stages]})
        return
    table = make_table("stage", "kept", "would drop" if dry_run else "dropped", "MB freed")
    for stage in stages:
        table.add_row(stage.stage, str(stage.kept), str(stage.dropped), f"{stage.freed_mb:.1f}")
    console().print(table)


@app.command()
def doctor(
    workspace: WorkspaceOption = HERE,
    verify: Annotated[bool, typer.Option(help="Read every shard and compare it with its digest.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check this machine and the workspace; every complaint says what to do."""
    from tasks.commands.doctor import examine

    checks = examine(workspace, verify=verify)
    if as_json:
        print_json({"checks": [dataclasses.asdict(check) for check in checks]})
    else:
        table = make_table("", "check", "found", "what to do")
        for check in checks:
            table.add_row("[green]ok[/]" if check.ok else "[red]no[/]", check.name, check.found, check.remedy)
        console().print(table)
    if not all(check.ok for check in checks):
        raise typer.Exit(FAILED)


@app.command()
def generate(
    images: Annotated[list[Path], typer.Argument(help="One photo, or views named *_front, *_left, *_back, *_right.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The mesh to write (.glb).")],
    workspace: WorkspaceOption = HERE,
) -> None:
    """Cast one object through the trained student."""
    from tasks.commands.generate import generate as cast

    found, params, _ = open_workspace(workspace, NONE)
    say(cast(found, params, images, out))


@teacher_app.command("try")
def teacher_try(
    name: Annotated[str, typer.Argument(help="The teacher.")],
    images: Annotated[list[Path], typer.Argument(help="One photo, or views named *_front, *_left, *_back, *_right.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The mesh to write (.glb); a picture goes beside it.")],
    workspace: WorkspaceOption = HERE,
    overrides: SetOption = NONE,
) -> None:
    """One object through a teacher: mesh, picture, seconds and peak memory."""
    from tasks.commands.try_teacher import try_teacher

    found, params, _ = open_workspace(workspace, overrides)
    for line in try_teacher(found, params, name, images, out):
        say(line)


@teacher_app.command("setup")
def teacher_setup(
    name: Annotated[str, typer.Argument(help="The teacher.")],
    accept_licence: Annotated[bool, typer.Option(help="Install; else only sizes and licence are shown.")] = False,
    python: Annotated[str, typer.Option(help="The interpreter that it is made from.")] = sys.executable,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Make a teacher's own Python environment, at pinned revisions."""
    from models.errors import Unavailable
    from models.hosting.environments import SetupFailed, describe, setup

    environments = Workspace.find(workspace).environments
    say(describe(name))
    if not accept_licence:
        say("run again with --accept-licence to install it")
        return
    try:
        say(f"ready: {setup(name, environments, accept_licence=True, say=say, python=python)}")
    except (Unavailable, SetupFailed) as error:
        raise StageFailed(str(error)) from error


@app.command()
def export_encoder(
    family: Annotated[str, typer.Argument(help="dinov2 or depth_anything.")],
    checkpoint: Annotated[str, typer.Argument(help="A folder with the checkpoint, or its id on the hub.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    image_size: Annotated[int, typer.Option(help="Side of the images it will be given, in pixels.")] = 224,
) -> None:
    """Export the real model class to ONNX and check that both give the same numbers."""
    from models.export_encoder import export_encoder as export

    say(str(export(family, checkpoint, out, image_size)))


@app.command()
def up(
    workspace: WorkspaceOption = HERE,
    port: Annotated[int | None, typer.Option(help="The server's port; by default 4200, or a free one.")] = None,
) -> None:
    """Start a Prefect server, the deployment and a worker on this machine; they outlive this command."""
    from flows.background import up as start

    running = start(Workspace.find(workspace), port, say)
    say(f"the UI: {running.url}; stop it all with `lostwax down`")


@app.command()
def down(workspace: WorkspaceOption = HERE) -> None:
    """Stop what `lostwax up` started, and nothing else. Runs in progress stop too; the next one resumes."""
    from flows.background import down as stop

    stopped = stop(Workspace.find(workspace))
    for line in stopped:
        say(f"stopped {line}")
    if not stopped:
        say("nothing to stop")


@app.command()
def deploy(workspace: WorkspaceOption = HERE, pool: PoolOption = POOL, api: ApiOption = None) -> None:
    """Register the flow for this workspace on a Prefect server, for the workers of a pool."""
    from flows.deployment import deploy as register
    from flows.deployment import find_api

    found = Workspace.find(workspace)
    address = find_api(found, api)
    say(f"{register(found, address, pool)} on {address}, for workers of {pool!r}")


@app.command()
def worker(workspace: WorkspaceOption = HERE, pool: PoolOption = POOL, api: ApiOption = None) -> None:
    """Run a worker of a pool here, until it is stopped."""
    from flows.deployment import find_api, run_worker

    found = Workspace.find(workspace)
    raise typer.Exit(run_worker(found, find_api(found, api), pool))


def open_workspace(folder: Path, overrides: list[str]) -> tuple[Workspace, Params, dict[str, int]]:
    """The workspace with validated params and versions."""
    found = Workspace.find(folder)
    return found, load_params(found.params_file, overrides), check_versions(found)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def short(quality: Any) -> str:
    """The first few figures of a record on one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in quality.items() if isinstance(value, int | float))


def make_table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def main() -> NoReturn:
    """Run the command; errors that a person can act on end in one line and DESIGN's exit codes."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sys.exit(guarded(lambda: app(standalone_mode=False)))


def guarded(command: Callable[[], object]) -> int:
    """The exit code of a command."""
    try:
        code = command()
        return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except HeldByAnother as error:
        say(str(error))
        return HELD
    except StageFailed as error:
        say(str(error))
        return FAILED
    except typer.Abort:
        return STOPPED
    except typer.TyperException as error:
        say(f"{error.format_message()}; `lostwax --help` lists what there is")
        return WRONG_USAGE
    except (ValueError, FileNotFoundError) as error:
        say(str(error))
        return WRONG_USAGE


if __name__ == "__main__":
    main()

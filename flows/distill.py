"""The flow: every stage in order, dvc.lock kept in step, one exit code."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from prefect import flow, get_run_logger

from flows.artifacts import summarise
from flows.budget import deadline_of
from flows.dvc_lock import DvcLock
from flows.reports import Reports
from flows.stages import StageEnded, stage_tasks
from tasks.engine.outcome import Outcome, Progress
from tasks.engine.runner import run_order
from tasks.engine.trial import begin_trial
from tasks.order import ORDER
from tasks.params import load_params
from tasks.versions import check_versions
from tasks.workspace import Workspace

Until = StrEnum("Until", {name: name for name in ORDER})  # type: ignore[misc]  # an enum for the UI's form
LAST = Until(ORDER[-1])
NONE: list[str] = []


@flow(name="distill", description="From a folder of meshes and photos to a measured student.", persist_result=False)
def distill(
    workspace: str = ".",
    until: Until = LAST,
    overrides: list[str] = NONE,
    strict: bool = False,
    budget: str = "",
) -> list[str]:
    """Run the stages of a workspace; returns a line for each.

    Flat types only: the UI's form makes a field of each parameter, and does badly with unions.

    Args:
        workspace: Its folder on the worker's machine.
        until: The last stage to run.
        overrides: Params to change, as block.name=value; such a run is kept, but not recorded in dvc.lock.
        strict: Any failed item ends the run.
        budget: Hand out no more work after 30m, 48h or 200USD (by run.price_per_gpu_hour). The next run resumes.
    """
    logger = get_run_logger()
    found = Workspace.find(Path(workspace))
    outcomes = run_stages(
        found,
        until=until.value,
        overrides=overrides,
        strict=strict,
        deadline=deadline_of(budget, load_params(found.params_file, overrides).run.price_per_gpu_hour),
        listener=lambda _: None,
        say=logger.info,
    )
    return [outcome.line() for outcome in outcomes]


def run_stages(
    workspace: Workspace,
    *,
    until: str | None,
    overrides: list[str],
    strict: bool,
    deadline: float | None,
    listener: Callable[[Progress], None],
    say: Callable[[str], None],
) -> list[Outcome]:
    """Inside a flow run: the stages in order, each recorded in dvc.lock as it succeeds.

    Raises StageEnded, StageFailed, HeldByAnother, ValueError.
    """
    params = load_params(workspace.params_file, overrides)
    params.check_device()
    versions = check_versions(workspace, params)
    lock = DvcLock(workspace)
    if overrides:
        workspace = begin_trial(workspace, overrides, ORDER)
        say(f"overrides {', '.join(overrides)}: a trial; it is kept, and what is published stays as it is")
    reports = Reports()
    tasks = stage_tasks(reports)
    outcomes: list[Outcome] = []
    try:
        for name in run_order(ORDER, until):
            before = lock.dependencies(name)
            ended = tasks[name](workspace, params, versions, strict, deadline, listener, return_state=True)
            outcomes.append(ended.result())
            for text in (outcomes[-1].line(), *(f"{name}: {notice}" for notice in outcomes[-1].notices)):
                say(text)
            if not overrides:
                lock.record(name, before, say)
    except StageEnded as stopped:
        outcomes.append(stopped.outcome)
        raise
    finally:
        reports.send(lambda: summarise(outcomes, workspace))
    lock.relink()
    return outcomes


__all__ = ["StageEnded", "Until", "distill", "run_stages"]

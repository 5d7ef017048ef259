"""Each stage as a Prefect task: its retries, its cache and its limits, in one place.

Prefect's own result cache is off. The item key alone decides freshness, and it also sees outputs that vanished; a stage
with nothing to compute ends in the state `Cached`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.artifacts import GateArtifact, StageArtifacts
from flows.reports import Reports
from tasks.collections.holder import HeldByAnother
from tasks.engine.outcome import OK, Outcome, Progress, StageFailed
from tasks.engine.runner import run_stage
from tasks.order import ORDER, load_stage
from tasks.params import Params
from tasks.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """How Prefect treats a stage. Items have attempt budgets of their own: this is for the stage as a whole."""

    retries: int
    retry_delay_s: int
    description: str


RULES = {
    "ingest": Rule(2, 10, "Find, normalise, label and split the objects"),
    "views": Rule(1, 10, "Render every mesh, take photos as they are"),
    "matte": Rule(1, 30, "Remove backgrounds, crop, square"),
    "features": Rule(1, 10, "Encode the declared views"),
    "teach": Rule(2, 30, "Run the teacher over every item"),
    "gate": Rule(1, 10, "Compare the teacher's outputs with its inputs and with the truth"),
    "fields": Rule(1, 10, "Signed distances and colours of the shapes, where a student needs them"),
    "train": Rule(1, 30, "Train the student; resumes from its checkpoint"),
    "evaluate": Rule(1, 10, "Measure student, teacher and baselines"),
    "report": Rule(1, 10, "Write the page"),
}


class StageEnded(Exception):
    """A stage ended with an exit code other than 0; `outcome` says how."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.line())
        self.outcome = outcome


def stage_tasks(reports: Reports) -> dict[str, Callable[..., Any]]:
    """One Prefect task a stage, in order. Call them with `return_state=True`: the state's result is the Outcome."""
    return {name: as_task(name, RULES[name], reports) for name in ORDER}


def as_task(name: str, rule: Rule, reports: Reports) -> Task[..., Any]:
    """The stage as a Prefect task. Its result is the Outcome; StageEnded, StageFailed and HeldByAnother fail it.

    Without tags: for a task that has some, Prefect asks the server for a concurrency slot, which takes up to seconds.
    """

    @task(
        name=name,
        description=rule.description,
        task_run_name=name,
        retries=rule.retries,
        retry_delay_seconds=rule.retry_delay_s,
        retry_condition_fn=_should_retry,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run(
        workspace: Workspace,
        params: Params,
        versions: dict[str, int],
        strict: bool,
        deadline: float | None,
        listener: Callable[[Progress], None],
    ) -> State[Any]:
        artifacts = StageArtifacts(name)
        sheet = GateArtifact(workspace, params.stage("gate")) if name == "gate" else None

        def report(progress: Progress) -> None:
            listener(progress)
            reports.send(lambda: artifacts.progress(progress))
            if sheet:
                reports.send(lambda: sheet.progress(progress))

        outcome = run_stage(
            load_stage(name), workspace, params, versions, strict=strict, deadline=deadline, report=report
        )
        reports.send(lambda: artifacts.finished(outcome, workspace))
        if sheet:
            reports.send(lambda: sheet.finished(outcome))
        if outcome.exit_code != OK:
            raise StageEnded(outcome)
        state = "NotNeeded" if outcome.idle else None if outcome.computed else "Cached"
        return Completed(name=state, message=outcome.line(), data=outcome)

    return run


def _should_retry(stage: Task[Any, Any], _: Any, state: State[Any]) -> bool:
    """After a crash, yes; not where a person must mend something first, nor where the same command resumes.

    Prefect asks only while there are retries left.
    """
    error = state.result(raise_on_failure=False)
    if isinstance(error, (HeldByAnother, StageFailed, StageEnded, ValueError)):
        return False
    log.warning("%s crashed and starts again in %s s: %r", stage.name, stage.retry_delay_seconds, error)
    return True

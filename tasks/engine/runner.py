"""Run one stage: lock, recover, plan, work, seal, publish. The same function under Prefect and under DVC."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from models.errors import Unavailable
from models.names import there_are
from tasks.collections.database import is_damage
from tasks.collections.dvc_cache import DvcCache
from tasks.collections.files import explain, remove_partial
from tasks.collections.holder import holding
from tasks.collections.index import DamagedShard, Finished
from tasks.collections.inflight import clear_leftovers, leftovers
from tasks.collections.ledger import Attempt, Ledger
from tasks.collections.records import DamagedList, from_line, identity, read_items
from tasks.collections.spool import recover
from tasks.collections.statcache import StatCache
from tasks.collections.summaries import known_failures
from tasks.engine.dispatch import BrokenEnvironment, Dispatch, TooManyFailures, record_recovered
from tasks.engine.labels import Labels
from tasks.engine.outcome import (
    FAILED,
    OK,
    STOPPED,
    TOO_MANY_FAILED,
    Outcome,
    Progress,
    StageFailed,
    Stopped,
    counted,
    some_of,
)
from tasks.engine.planning import INTERRUPTED, StagePlan, make_recipe, plan_stage, published_failures
from tasks.engine.publishing import Publisher, check_published
from tasks.engine.stage import Context, Stage
from tasks.engine.supervisor import Task
from tasks.engine.upstreams import UpstreamLines, planning_context
from tasks.params import Params
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

MAX_NAMES = 3


def run_stage(
    stage: Stage,
    workspace: Workspace,
    params: Params,
    versions: Mapping[str, int],
    *,
    strict: bool = False,
    deadline: float | None = None,
    report: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Bring the stage's collection up to date; returns when done + exhausted + skipped + blocked = total.

    strict: any exhausted item makes exit code 3. deadline: time.monotonic() after which nothing more is handed out.
    Raises HeldByAnother, StageFailed (nothing can be done until the message is heeded).
    """
    try:
        try:
            return _run_held(stage, workspace, params, versions, strict, deadline, report)
        except sqlite3.DatabaseError as error:
            if not (is_damage(error) and _mend_databases(workspace, stage.name)):
                raise
            return _run_held(stage, workspace, params, versions, strict, deadline, report)
    except OSError as error:
        raise StageFailed(f"{stage.name}: {explain(error, workspace.root)}") from error
    except sqlite3.DatabaseError as error:
        raise StageFailed(f"{stage.name}: {explain_database(error, workspace, stage.name)}") from error
    except DamagedShard as error:
        raise StageFailed(f"{stage.name}: {error}; run the same command again") from error


def _run_held(
    stage: Stage,
    workspace: Workspace,
    params: Params,
    versions: Mapping[str, int],
    strict: bool,
    deadline: float | None,
    report: Callable[[Progress], None],
) -> Outcome:
    local = workspace.local(stage.name)
    with holding(stage.name, local, workspace.artifacts(stage.name)) as left_behind, Ledger(local) as ledger:
        if left_behind:
            log.info("%s: %s", stage.name, left_behind)
        with closing(StatCache(workspace.stat_cache_file)) as stats:
            return StageRun(stage, workspace, params, versions, ledger, stats).run(strict, deadline, report)


def _mend_databases(workspace: Workspace, name: str) -> bool:
    """Set aside those of a stage's databases that are damaged; whether there were any."""
    found = [Ledger.set_aside_if_damaged(workspace.local(name))]
    return any([*found, StatCache.set_aside_if_damaged(workspace.stat_cache_file)])


class StageRun:
    """One run of a stage whose collection is held."""

    def __init__(
        self,
        stage: Stage,
        workspace: Workspace,
        params: Params,
        versions: Mapping[str, int],
        ledger: Ledger,
        stats: StatCache,
    ) -> None:
        self._stage, self._workspace, self._params, self._versions = stage, workspace, params, versions
        self._ledger, self._stats = ledger, stats
        self._local, self._shards = workspace.local(stage.name), workspace.shards_dir(stage.name)
        self._cache = DvcCache(workspace.root)
        self._finished = Finished(self._local, self._shards, stats.digest, holding=True, restore=self._cache.restore)
        self._publisher = Publisher(stage, workspace, self._finished, ledger, stats, self._cache)
        self._upstreams = {name: UpstreamLines(workspace, name, stats) for name in stage.upstreams_of(params)}
        self._started = time.monotonic()

    def run(self, strict: bool, deadline: float | None, report: Callable[[Progress], None]) -> Outcome:
        self._shards.mkdir(parents=True, exist_ok=True)
        recovered = self._recover()
        if reason := self._stage.idle(self._params):
            return self._rest(reason, recovered)
        for upstream in self._upstreams.values():
            upstream.load(self._stage.name)
            check_published(self._workspace, upstream.name, self._stats, self._cache)
        context = planning_context(
            self._stage, self._workspace, self._params, self._stats, self._upstreams, self._versions
        )
        failures = published_failures(self._workspace.failures_file(self._stage.name)) | self._ledger.failures()
        plan = self._plan(context, failures)
        if self._restore_lost(plan):
            plan = self._plan(context, failures)
        number = self._ledger.begin_run(plan.recipe.name)
        self._stats.save()
        dispatch = Dispatch(
            self._stage,
            self._workspace,
            self._params,
            plan,
            self._finished,
            self._ledger,
            failures,
            self._encode,
            report,
        )
        published = False
        try:
            if reason := self._stage.refusal(context):
                raise Stopped(reason)
            if plan.pending:
                dispatch.run(deadline)
        except Stopped as stopped:
            outcome = self._outcome(plan, dispatch, recovered, STOPPED, f"{stopped}; the same command resumes")
        except TooManyFailures as reason:
            self._publisher.publish_failures(plan, dispatch)
            message = f"stopped early: {reason}; `lostwax status` shows more, the same command goes on"
            outcome = self._outcome(plan, dispatch, recovered, TOO_MANY_FAILED, message)
        except BrokenEnvironment as broken:
            for path in dispatch.damaged:
                self._stats.forget(path)
            raise StageFailed(f"{self._stage.name}: {broken}") from broken
        else:
            counts = self._counts(plan, dispatch)
            notices = self._publisher.publish(plan, dispatch, counts, context)
            published = True
            code, message = self._verdict(plan, dispatch, strict)
            outcome = self._outcome(plan, dispatch, recovered, code, message, notices)
        self._ledger.end_run(
            number,
            seconds=outcome.seconds,
            computed=outcome.computed,
            exit_code=outcome.exit_code,
            message=outcome.message,
            published=published,
        )
        return outcome

    def _rest(self, reason: str, recovered: int) -> Outcome:
        """Publish nothing, for nobody needs it. What is finished stays."""
        self._publisher.publish_nothing(reason)
        seconds = time.monotonic() - self._started
        return Outcome(self._stage.name, OK, 0, 0, 0, recovered, 0, 0, 0, seconds, reason, idle=True)

    def _recover(self) -> int:
        """Seal what dead workers left behind, and charge what they had in hand; returns how many items were saved."""
        for folder in (self._shards, self._shards.parent, self._local):
            remove_partial(folder)
        saved = recover(self._local, self._shards)
        if self._finished.refresh():
            saved += recover(self._local, self._shards)
            self._finished.refresh()
        recovered = record_recovered(self._ledger, saved)
        message = "the run died while this item was in hand"
        in_hand = [pair for pair in leftovers(self._local) if self._finished.row(*pair) is None]
        self._ledger.add([Attempt(item_id, key, INTERRUPTED, message) for item_id, key in in_hand])
        clear_leftovers(self._local)
        return recovered

    def _restore_lost(self, plan: StagePlan) -> bool:
        """Take from DVC's cache the shards that somebody deleted and that pending items may lie in; whether any was."""
        items_file = self._workspace.items_file(self._stage.name)
        if self._workspace.trial or not plan.pending or not _lacks_published(items_file, plan.pending):
            return False
        lost = [path for path in self._cache.files_of(self._shards) if not path.is_file()]
        restored = [path for path in lost if self._cache.restore(path)]
        self._finished.refresh()
        return bool(restored)

    def _plan(self, context: Context, failures: Mapping[tuple[str, str], list[Attempt]]) -> StagePlan:
        recipe = make_recipe(self._stage, self._params, self._versions, self._workspace, self._stats.digest)
        self._ledger.add_recipe(recipe.name, recipe.content)
        try:
            budgets, reopened = self._params.run.attempts, self._ledger.reopened()
            plan = plan_stage(self._stage, context, recipe, self._finished, failures, budgets, reopened)
        except (ValueError, Unavailable) as error:
            raise StageFailed(f"{self._stage.name}: {error}") from error
        if plan.total == 0:
            raise StageFailed(f"{self._stage.name}: nothing to do: {self._why_no_items()}")
        return plan

    def _why_no_items(self) -> str:
        """Where the items ended, and the most frequent reason."""
        if not self._stage.upstreams:
            return "no source has any"
        upstream = self._stage.upstreams[0]
        ended = Counter(
            (entry["state"], entry["message"]) for entry in known_failures(self._workspace.failures_file(upstream))
        )
        if not ended:
            return f"{upstream} has no items for it; `lostwax status` shows where items ended"
        (state, reason), count = ended.most_common(1)[0]
        return f"{upstream} has no items for it: {counted(count)} {state}: {reason}"

    def _encode(self, task: Task) -> dict[str, Any]:
        """The message that tells a worker all it needs of an item."""
        records, locations = {}, {}
        if not self._stage.product:
            for name, upstream in self._upstreams.items():
                line = upstream.records.line(task.item or task.id)
                if line is not None:
                    record = from_line(line)
                    records[name], locations[name] = line.decode(), upstream.location(record)
        return {
            "id": task.id,
            "key": task.key,
            "label": task.label,
            "records": records,
            "locations": locations,
            "payload": task.payload,
        }

    def _counts(self, plan: StagePlan, dispatch: Dispatch) -> dict[str, int]:
        exhausted, blocked = len(plan.exhausted | dispatch.exhausted), len(dispatch.blocked)
        pending = [task for task in plan.pending if task.id not in plan.fresh]
        done = len(plan.fresh) + sum(self._finished.row(task.id, task.key) is not None for task in pending)
        return {
            "total": plan.total,
            "done": done,
            "exhausted": exhausted,
            "skipped": len(plan.skipped),
            "blocked": blocked,
        }

    def _verdict(self, plan: StagePlan, dispatch: Dispatch, strict: bool) -> tuple[int, str]:
        counts = self._counts(plan, dispatch)
        exhausted, limit = counts["exhausted"], self._params.run.max_failed_share
        if dispatch.unavailable:
            return FAILED, f"{counted(counts['blocked'])} blocked: {dispatch.unavailable}"
        if counts["blocked"] and not counts["done"]:
            return FAILED, f"every item is blocked: {next(iter(dispatch.blocked.values()))}"
        if self._stage.product and exhausted:
            return TOO_MANY_FAILED, self._why_failed(plan.exhausted | dispatch.exhausted)
        share = exhausted / max(1, plan.total - counts["skipped"])
        if exhausted and (strict or share > limit):
            rule = "--strict allows none" if strict else f"run.max_failed_share allows {limit:.0%}"
            return TOO_MANY_FAILED, f"{counted(exhausted)} failed ({share:.0%}; {rule}); `lostwax status` shows why"
        if counts["skipped"] == plan.total:
            return OK, Counter(plan.skipped.values()).most_common(1)[0][0]
        within = [f"{counted(exhausted)} failed, within run.max_failed_share = {limit:.0%}"] if exhausted else []
        return OK, "; ".join([*within, *self._why_blocked(plan, dispatch), *([] if exhausted else plan.notes)])

    def _why_failed(self, exhausted: Mapping[str, list[Attempt]]) -> str:
        """The cause for each product that failed; the stage's own needs no name."""
        name = self._stage.name
        causes = [
            f"{'' if item_id == name else f'{item_id}: '}{attempts[-1].outcome}: {attempts[-1].message}"
            for item_id, attempts in exhausted.items()
        ]
        return f"{'; '.join(causes)}; mend that, then `lostwax retry {name}` and run again"

    def _why_blocked(self, plan: StagePlan, dispatch: Dispatch) -> list[str]:
        """A line for each reason."""
        labels, by_reason = Labels(self._workspace), dict[str, list[str]]()
        for item_id, reason in dispatch.blocked.items():
            by_reason.setdefault(reason, []).append(labels.get(item_id) or plan.labels[item_id])
        return [f"{some_of(names, MAX_NAMES)} blocked: {reason}" for reason, names in by_reason.items()]

    def _outcome(
        self,
        plan: StagePlan,
        dispatch: Dispatch,
        recovered: int,
        code: int,
        message: str,
        notices: Iterable[str] = (),
    ) -> Outcome:
        counts = self._counts(plan, dispatch)
        seconds = time.monotonic() - self._started
        return Outcome(
            stage=self._stage.name,
            exit_code=code,
            computed=dispatch.computed,
            recovered=recovered,
            seconds=seconds,
            message=message,
            idle=False,
            notices=tuple(notices),
            **counts,
        )


def _lacks_published(items_file: Path, pending: Iterable[Task]) -> bool:
    """Whether an item that is to be computed is published under its key. Of no published list nothing is known."""
    published = read_items(items_file)
    try:
        lines = ((task, published.line(task.id)) for task in pending)
        return not items_file.is_file() or any(line and identity(line)[1] == task.key for task, line in lines)
    except DamagedList:
        return True


def explain_database(error: sqlite3.DatabaseError, workspace: Workspace, name: str) -> str:
    """A ledger or stat cache that cannot be used, in words."""
    folder, text = workspace.root / ".lostwax", str(error)
    if not workspace.local(name).is_dir():
        return f"{workspace.local(name)} was removed while the run was at work; run the same command again"
    if "full" in text or "disk I/O" in text:
        return f"the disk is full at {folder} ({text}); what is finished is safe: free some space and run again"
    if "readonly" in text or "unable to open" in text:
        return f"cannot write {folder} ({text}); make the folder writable and run again"
    return f"a database under {folder} cannot be used ({text}); what is finished is safe: run the same command again"


def run_order(stages: Iterable[str], until: str | None) -> list[str]:
    """The stages up to and including `until`. Raises ValueError naming the known ones."""
    names = list(stages)
    if until is None:
        return names
    if until not in names:
        raise ValueError(f"unknown stage {until!r}; {there_are(names, until)}")
    return names[: names.index(until) + 1]

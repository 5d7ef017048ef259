"""Run one stage: lock, recover, plan, work, seal, publish. The same function under Prefect and under DVC."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from models.errors import Unavailable
from models.names import there_are
from tasks.collections.files import explain, remove_partial, write_if_changed
from tasks.collections.holder import holding
from tasks.collections.index import DamagedShard, Held, ItemReader
from tasks.collections.inflight import clear_leftovers, leftovers
from tasks.collections.ledger import Attempt, Ledger
from tasks.collections.records import Record, RecordLines, canonical, from_line, read_items
from tasks.collections.spool import recover
from tasks.collections.statcache import StatCache
from tasks.engine.dispatch import BrokenEnvironment, Dispatch, Hopeless, record_recovered
from tasks.engine.outcome import FAILED, OK, STOPPED, TOO_MANY_FAILED, Outcome, Progress, StageFailed, Stopped, counted
from tasks.engine.planning import INTERRUPTED, StagePlan, make_recipe, plan_stage, published_failures
from tasks.engine.stage import Context, Stage, Upstream
from tasks.engine.supervisor import Task
from tasks.params import Params
from tasks.workspace import Workspace

log = logging.getLogger(__name__)


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
    local = workspace.local(stage.name)
    try:
        with holding(local, stage.name) as left_behind, Ledger(local) as ledger:
            if left_behind:
                log.info("%s: %s", stage.name, left_behind)
            stats = StatCache(workspace.stat_cache_file)
            try:
                return StageRun(stage, workspace, params, versions, ledger, stats).run(strict, deadline, report)
            finally:
                stats.close()
    except OSError as error:
        raise StageFailed(f"{stage.name}: {explain(error, workspace.root)}") from error
    except sqlite3.DatabaseError as error:
        raise StageFailed(f"{stage.name}: {explain_database(error, workspace)}") from error
    except DamagedShard as error:
        raise StageFailed(f"{stage.name}: {error}; run the same command again") from error


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
        self._held = Held(self._local, self._shards, stats.digest, holding=True)
        self._upstreams = {name: UpstreamLines(workspace, name, stats) for name in stage.upstreams}
        self._started = time.monotonic()

    def run(self, strict: bool, deadline: float | None, report: Callable[[Progress], None]) -> Outcome:
        self._shards.mkdir(parents=True, exist_ok=True)
        recovered = self._recover()
        if reason := self._stage.idle(self._params):
            return self._rest(reason, recovered)
        for upstream in self._upstreams.values():
            upstream.load(self._stage.name)
        context = planning_context(
            self._stage, self._workspace, self._params, self._stats, self._upstreams, self._versions
        )
        failures = published_failures(self._workspace.failures_file(self._stage.name)) | self._ledger.failures()
        plan = self._plan(context, failures)
        number = self._ledger.begin_run(plan.recipe.name)
        self._stats.save()
        dispatch = Dispatch(
            self._stage, self._workspace, self._params, plan, self._held, self._ledger, failures, self._encode, report
        )
        published = False
        try:
            if reason := self._stage.refusal(context):
                raise Stopped(reason)
            if plan.pending:
                dispatch.run(deadline)
        except Stopped as stopped:
            outcome = self._outcome(plan, dispatch, recovered, STOPPED, f"{stopped}; the same command resumes")
        except Hopeless as hopeless:
            self._publish_failures(plan, dispatch)
            message = f"stopped early: {hopeless}; `lostwax status` shows more, the same command goes on"
            outcome = self._outcome(plan, dispatch, recovered, TOO_MANY_FAILED, message)
        except BrokenEnvironment as broken:
            for path in dispatch.damaged:
                self._stats.forget(path)
            raise StageFailed(f"{self._stage.name}: {broken}") from broken
        else:
            self._publish(plan, dispatch, context)
            published = True
            code, message = self._verdict(plan, dispatch, strict)
            outcome = self._outcome(plan, dispatch, recovered, code, message)
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
        """Publish nothing, for nobody needs it. What is held stays held."""
        write_if_changed(self._workspace.items_file(self._stage.name), b"")
        write_if_changed(self._workspace.failures_file(self._stage.name), b"[]\n")
        counts = dict.fromkeys(("total", "done", "exhausted", "skipped", "blocked"), 0)
        self._publish_metrics({"items": counts, "idle": reason})
        seconds = time.monotonic() - self._started
        return Outcome(self._stage.name, OK, 0, 0, 0, recovered, 0, 0, 0, seconds, reason, idle=True)

    def _recover(self) -> int:
        """Seal what dead workers left behind, and charge what they had in hand; returns how many items were saved."""
        for folder in (self._shards, self._shards.parent, self._local):
            remove_partial(folder)
        saved = recover(self._local, self._shards)
        if self._held.refresh():
            saved += recover(self._local, self._shards)
            self._held.refresh()
        recovered = record_recovered(self._ledger, saved)
        message = "the run died while this item was in hand"
        in_hand = [pair for pair in leftovers(self._local) if self._held.line(*pair) is None]
        self._ledger.add([Attempt(item_id, key, INTERRUPTED, message) for item_id, key in in_hand])
        clear_leftovers(self._local)
        return recovered

    def _plan(self, context: Context, failures: Mapping[tuple[str, str], list[Attempt]]) -> StagePlan:
        recipe = make_recipe(self._stage, self._params, self._versions, self._workspace, self._stats.digest)
        self._ledger.add_recipe(recipe.name, recipe.content)
        try:
            budgets, reopened = self._params.run.attempts, self._ledger.reopened()
            plan = plan_stage(self._stage, context, recipe, self._held, failures, budgets, reopened)
        except (ValueError, Unavailable) as error:
            raise StageFailed(f"{self._stage.name}: {error}") from error
        if plan.total == 0:
            where = f"{self._stage.upstreams[0]} has no items for it" if self._stage.upstreams else "no source has any"
            raise StageFailed(f"{self._stage.name}: nothing to do: {where}; `lostwax status` shows where items ended")
        return plan

    def _encode(self, task: Task) -> dict[str, Any]:
        """The message that tells a worker all it needs of an item."""
        records, places = {}, {}
        if not self._stage.product:
            for name, upstream in self._upstreams.items():
                line = upstream.lines.get(task.item or task.id)
                if line is not None:
                    record = from_line(line)
                    records[name], places[name] = line.decode(), upstream.place(record)
        return {
            "id": task.id,
            "key": task.key,
            "label": task.label,
            "records": records,
            "places": places,
            "payload": task.payload,
        }

    def _publish(self, plan: StagePlan, dispatch: Dispatch, context: Context) -> None:
        lines = dict(plan.held)
        for task in plan.pending:
            if line := self._held.line(task.id, task.key):
                lines[task.id] = line  # a reopened item's may be a better one than that of the plan
        ordered = [lines[item_id] for item_id in sorted(lines)]
        write_if_changed(self._workspace.items_file(self._stage.name), b"".join(ordered))
        self._publish_failures(plan, dispatch)
        self._publish_metrics(
            {"items": self._counts(plan, dispatch)} | self._stage.metrics(map(from_line, ordered), context)
        )
        if self._stage.product and (own := lines.get(self._stage.name)):
            self._publish_files(own)

    def _publish_metrics(self, metrics: Mapping[str, Any]) -> None:
        text = json.dumps(metrics, indent=1, sort_keys=True) + "\n"
        write_if_changed(self._workspace.metrics_file(self._stage.name), text.encode())

    def _publish_failures(self, plan: StagePlan, dispatch: Dispatch) -> None:
        labels = Labels(self._workspace)
        entries: list[dict[str, Any]] = []
        for item_id, reason in plan.skipped.items():
            entries.append({"id": item_id, "state": "skipped", "class": "skipped", "message": reason})
        for item_id, reason in dispatch.blocked.items():
            entries.append({"id": item_id, "state": "blocked", "class": "environment", "message": reason})
        for item_id, attempts in (plan.exhausted | dispatch.exhausted).items():
            last = attempts[-1]
            entries.append(
                {
                    "id": item_id,
                    "key": last.key,
                    "state": "exhausted",
                    "class": last.outcome,
                    "message": last.message,
                    "attempts": len(attempts),
                }
            )
        for entry in entries:
            entry["label"] = labels.get(entry["id"]) or plan.labels.get(entry["id"], entry["id"])
            entry["message"] = entry["message"].replace(f"{self._workspace.root}/", "")  # the same on every machine
        rows = b",\n".join(canonical(entry) for entry in sorted(entries, key=lambda entry: entry["id"]))
        write_if_changed(self._workspace.failures_file(self._stage.name), b"[\n" + rows + b"\n]\n" if rows else b"[]\n")

    def _publish_files(self, line: bytes) -> None:
        record = from_line(line)
        place = self._held.place(record.id, record.key)
        assert place is not None
        reader = ItemReader(self._shards)
        for name in self._stage.publishes:
            if name in record.files:
                write_if_changed(self._workspace.published(self._stage.name) / name, reader.read(place, record, name))
        reader.close()

    def _counts(self, plan: StagePlan, dispatch: Dispatch) -> dict[str, int]:
        exhausted, blocked = len(plan.exhausted | dispatch.exhausted), len(dispatch.blocked)
        pending = [task for task in plan.pending if task.id not in plan.held]
        done = len(plan.held) + sum(self._held.line(task.id, task.key) is not None for task in pending)
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
        share = exhausted / max(1, plan.total - counts["skipped"])
        if exhausted and (strict or share > limit):
            rule = "--strict allows none" if strict else f"run.max_failed_share allows {limit:.0%}"
            return TOO_MANY_FAILED, f"{counted(exhausted)} failed ({share:.0%}; {rule}); `lostwax status` shows why"
        if exhausted:
            return OK, f"{counted(exhausted)} failed, within run.max_failed_share = {limit:.0%}"
        return OK, "; ".join(plan.notes)

    def _outcome(self, plan: StagePlan, dispatch: Dispatch, recovered: int, code: int, message: str) -> Outcome:
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
            **counts,
        )


class UpstreamLines:
    """The published records of an upstream collection and where their bytes lie."""

    def __init__(self, workspace: Workspace, name: str, stats: StatCache) -> None:
        self.name = name
        self.lines: dict[str, bytes] = {}
        self._workspace, self._stats = workspace, stats
        self._held = Held(workspace.local(name), workspace.shards_dir(name), stats.digest)
        self.reader = ItemReader(workspace.shards_dir(name))

    def load(self, wanted_by: str) -> None:
        path = self._workspace.items_file(self.name)
        if not path.is_file():
            raise StageFailed(
                f"{wanted_by} needs {self.name}, which has not run here; "
                f"run `lostwax run --until {wanted_by}` or `dvc checkout`"
            )
        self.lines = dict(read_items(path).lines)
        self._held.refresh()

    def adopt(self, lines: Mapping[str, bytes]) -> None:
        """Take records that a run would publish, in place of the published ones."""
        self.lines = dict(lines)
        self._held.refresh()

    def place(self, record: Record) -> tuple[str, int]:
        """(shard, offset) of a record's bytes. Raises StageFailed where they are not on this machine."""
        place = self._held.place(record.id, record.key)
        if place is None:
            raise StageFailed(
                f"the bytes of item {record.id} of {self.name} are not here; run `dvc checkout` or "
                f"`lostwax run --until {self.name}`"
            )
        return place

    def as_upstream(self) -> Upstream:
        return Upstream(
            self.name,
            RecordLines(self.lines),
            lambda record, file_name: self.reader.read(self.place(record), record, file_name),
        )


class Labels:
    """Readable labels of items, from ingest's records; read only when somebody asks."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.items_file("ingest")
        self._records: RecordLines | None = None

    def get(self, item_id: str) -> str | None:
        if self._records is None:
            self._records = read_items(self._path)
        record = self._records.get(item_id)
        return str(record.facts.get("label", item_id)) if record else None

    def find(self, text: str) -> list[str]:
        """Ids that `text` may mean: an id, the beginning of one, or a label."""
        if self._records is None:
            self._records = read_items(self._path)
        if text in self._records:
            return [text]
        named = [item_id for item_id, record in self._records.items() if record.facts.get("label") == text]
        return named or [item_id for item_id in self._records if len(text) >= 4 and item_id.startswith(text)]


def planning_context(
    stage: Stage,
    workspace: Workspace,
    params: Params,
    stats: StatCache,
    upstreams: Mapping[str, UpstreamLines],
    versions: Mapping[str, int],
) -> Context:
    """The context in which a stage lists what it wants: records and digests, nothing heavy."""
    return Context(
        workspace=workspace.root,
        params=params,
        device="cpu",
        num_threads=1,
        work_dir=workspace.local(stage.name),
        upstreams={name: upstream.as_upstream() for name, upstream in upstreams.items()},
        progress=log.info,
        trial=workspace.trial,
        digest=stats.digest,
        published=_published(stage, workspace, stats) if stage.product else None,
        versions=versions,
    )


def _published(stage: Stage, workspace: Workspace, stats: StatCache) -> Upstream:
    return published_lines(workspace, stage.name, stats).as_upstream()


def published_lines(workspace: Workspace, name: str, stats: StatCache) -> UpstreamLines:
    """What a collection has published, be it nothing."""
    found = UpstreamLines(workspace, name, stats)
    found.adopt(read_items(workspace.items_file(name)).lines)
    return found


def explain_database(error: sqlite3.DatabaseError, workspace: Workspace) -> str:
    """A ledger or stat cache that cannot be used, in words."""
    place, text = workspace.root / ".lostwax", str(error)
    if "full" in text or "disk I/O" in text:
        return f"the disk is full at {place} ({text}); what is finished is safe: free some space and run again"
    if "readonly" in text or "unable to open" in text:
        return f"cannot write {place} ({text}); make the folder writable and run again"
    return f"a database under {place} cannot be used ({text}); delete ledger.db or files.db there, only history is lost"


def run_order(stages: Iterable[str], until: str | None) -> list[str]:
    """The stages up to and including `until`. Raises ValueError naming the known ones."""
    names = list(stages)
    if until is None:
        return names
    if until not in names:
        raise ValueError(f"unknown stage {until!r}; {there_are(names, until)}")
    return names[: names.index(until) + 1]

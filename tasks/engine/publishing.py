"""What a run publishes: items.jsonl, failures.json, metrics.json, a product's files. Equal bytes are left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.collections.dvc_cache import DvcCache
from tasks.collections.files import write_if_changed, write_lines_if_changed
from tasks.collections.index import Finished, FinishedLines, ItemReader
from tasks.collections.ledger import Ledger
from tasks.collections.records import Record, read_items
from tasks.collections.statcache import StatCache
from tasks.collections.summaries import write_failures
from tasks.engine.dispatch import Dispatch
from tasks.engine.labels import Labels
from tasks.engine.outcome import StageFailed
from tasks.engine.planning import StagePlan
from tasks.engine.stage import Context, Stage
from tasks.workspace import Workspace

Entry = dict[str, Any]


class Publisher:
    """Publishes the collection of one stage."""

    def __init__(
        self,
        stage: Stage,
        workspace: Workspace,
        finished: Finished,
        ledger: Ledger,
        stats: StatCache,
        cache: DvcCache,
    ) -> None:
        self._stage, self._workspace, self._finished = stage, workspace, finished
        self._ledger, self._stats, self._cache = ledger, stats, cache

    def publish(self, plan: StagePlan, dispatch: Dispatch, counts: Mapping[str, int], context: Context) -> list[str]:
        """All of it, once every item has come to its end; returns the notices of the stage's metrics."""
        path = self._workspace.items_file(self._stage.name)
        self._note_change(path, write_lines_if_changed(path, self._lines(plan).lines))
        self._ledger.note_published(path.relative_to(self._workspace.root), self._stats.digest(path))
        self.publish_failures(plan, dispatch)
        published = read_items(path)
        metrics: dict[str, Any] = {"items": counts} | self._stage.metrics(published.values(), context)
        self._publish_metrics(metrics)
        if (scores := self._stage.scores(metrics, context)) is not None:
            self._write(self._workspace.scores_file(self._stage.name), _indented(scores))
        if self._stage.product and (own := published.get(self._stage.name)):
            self._publish_files(own)
        notices: list[str] = metrics.get("notices", [])
        return notices

    def publish_nothing(self, reason: str) -> None:
        """An empty collection, and why."""
        path = self._workspace.items_file(self._stage.name)
        self._write(path, b"")
        self._ledger.note_published(path.relative_to(self._workspace.root), self._stats.digest(path))
        write_failures(self._workspace.failures_file(self._stage.name), [])
        counts = dict.fromkeys(("total", "done", "exhausted", "skipped", "blocked"), 0)
        self._publish_metrics({"items": counts, "idle": reason})

    def publish_failures(self, plan: StagePlan, dispatch: Dispatch) -> None:
        """What was skipped, is blocked or has failed."""
        entries, labels = _entries(plan, dispatch), Labels(self._workspace)
        for entry in entries:
            entry["label"] = labels.get(entry["id"]) or plan.labels.get(entry["id"], entry["id"])
            entry["message"] = entry["message"].replace(f"{self._workspace.root}/", "")  # the same on every machine
        path = self._workspace.failures_file(self._stage.name)
        self._note_change(path, write_failures(path, entries))

    def _lines(self, plan: StagePlan) -> FinishedLines:
        rows = dict(plan.fresh)
        for task in plan.pending:
            if (row := self._finished.row(task.id, task.key)) is not None:
                rows[self._finished.id_of(row)] = row  # a reopened item's may be a better one than that of the plan
        return FinishedLines(self._finished, rows)

    def _publish_files(self, record: Record) -> None:
        location = self._finished.location(record.id, record.key)
        assert location is not None
        reader = ItemReader(self._workspace.shards_dir(self._stage.name))
        for name in self._stage.publishes:
            if name in record.files:
                data = reader.read(location, record, name)
                self._write(self._workspace.published(self._stage.name) / name, data)
        reader.close()

    def _publish_metrics(self, metrics: Mapping[str, Any]) -> None:
        self._write(self._workspace.metrics_file(self._stage.name), _indented(metrics))

    def _write(self, path: Path, data: bytes) -> None:
        self._note_change(path, write_if_changed(path, data))

    def _note_change(self, path: Path, changed: bool) -> None:
        """A file that was damaged is whole again. DVC must not replace it by a damaged copy of its own."""
        if changed:
            self._cache.drop_damaged_copy(path)


def _indented(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def check_published(workspace: Workspace, name: str, stats: StatCache, cache: DvcCache) -> None:
    """Raises StageFailed where a collection's items.jsonl is not what was published.

    It may be what this machine published last, or what dvc.lock names. Where neither is known, it came from elsewhere.
    """
    path = workspace.items_file(name)
    with Ledger(workspace.local(name), reading=True) as ledger:
        expected = ledger.published(path.relative_to(workspace.root))
    if expected is None or stats.digest(path) == expected or cache.names(path):
        return
    raise StageFailed(
        f"{path} is not what {name} published: it was changed, or another workspace that shares the folder wrote it; "
        f"`lostwax run --until {name}` publishes it anew, and computes nothing that is finished"
    )


def _entries(plan: StagePlan, dispatch: Dispatch) -> list[Entry]:
    keys = {task.id: task.key for task in plan.pending}
    skipped = [
        {"id": item_id, "state": "skipped", "class": "skipped", "message": reason}
        for item_id, reason in plan.skipped.items()
    ]
    blocked = [
        {"id": item_id, "key": keys[item_id], "state": "blocked", "class": "environment", "message": reason}
        for item_id, reason in dispatch.blocked.items()
    ]
    exhausted = [
        {
            "id": item_id,
            "key": attempts[-1].key,
            "state": "exhausted",
            "class": attempts[-1].outcome,
            "message": attempts[-1].message,
            "attempts": len(attempts),
        }
        for item_id, attempts in (plan.exhausted | dispatch.exhausted).items()
    ]
    return [*skipped, *blocked, *exhausted]

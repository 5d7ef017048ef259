"""`explain`, `show` and `retry`: one item at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.collections.files import write_if_changed
from tasks.collections.holder import holding
from tasks.collections.ledger import Ledger
from tasks.collections.records import read_items
from tasks.collections.statcache import StatCache
from tasks.commands.plan import differences
from tasks.engine.planning import make_recipe
from tasks.engine.runner import Labels, planning_context, published_lines
from tasks.engine.stage import Stage
from tasks.engine.worker import open_upstream
from tasks.order import load_stage
from tasks.params import Params
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Explanation:
    """An item at one stage. state: done, stale, exhausted, skipped, blocked or absent, and why."""

    stage: str
    state: str
    why: str
    key: str | None
    quality: Mapping[str, Any]
    attempts: list[dict[str, object]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_item(workspace: Workspace, text: str) -> str:
    """The id that `text` (an id, the beginning of one, or a label) names. Raises ValueError with what exists."""
    labels = Labels(workspace)
    found = labels.find(text)
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{text!r} means {len(found)} items: {', '.join(found[:5])}; give an id")
    records = read_items(workspace.items_file("ingest"))
    some = ", ".join(
        str(record.facts.get("label", record.id)) for _, record in zip(range(5), records.values(), strict=False)
    )
    raise ValueError(f"unknown item {text!r}; there are {len(records)}" + (f", for example: {some}" if some else ""))


def explain(
    workspace: Workspace, params: Params, versions: Mapping[str, int], item_id: str, names: Iterable[str]
) -> list[Explanation]:
    """Where the item stands at every collection stage, why, and every attempt that was made."""
    stats = StatCache(workspace.stat_cache_file)
    try:
        stages = [stage for stage in map(load_stage, names) if not stage.product]
        found = []
        for stage in stages:
            recipe = make_recipe(stage, params, versions, workspace, stats.digest)
            record = read_items(workspace.items_file(stage.name)).get(item_id)
            failure = _failure(workspace, stage.name, item_id)
            with Ledger(workspace.local(stage.name)) as ledger:
                if record is None:
                    state = failure["state"] if failure else "absent"
                    why = (
                        failure["message"]
                        if failure
                        else _why_absent(stage, workspace, params, versions, stats, item_id)
                    )
                elif record.recipe != recipe.name:
                    state, why = "stale", "; ".join(differences(ledger.recipe(record.recipe), recipe.content))
                else:
                    state, why = "done", stage.remark(record, params)
                quality = dict(record.quality) if record else {}
                found.append(
                    Explanation(
                        stage.name, state, why, record.key if record else None, quality, ledger.history(item_id)
                    )
                )
        return found
    finally:
        stats.close()


def _why_absent(
    stage: Stage, workspace: Workspace, params: Params, versions: Mapping[str, int], stats: StatCache, item_id: str
) -> str:
    upstreams = {name: published_lines(workspace, name, stats) for name in stage.upstreams}
    context = planning_context(stage, workspace, params, stats, upstreams, versions)
    if reason := stage.unwanted(item_id, context):
        return reason
    first = stage.upstreams[0] if stage.upstreams else None
    if first and item_id not in context.upstreams[first].records:
        return f"{first} has not brought it here"
    return "not computed yet"


def show(workspace: Workspace, item_id: str, names: Iterable[str], out: Path) -> list[Path]:
    """Write the item's files of every stage to OUT/STAGE/NAME, its records beside them; returns what was written."""
    written = []
    for name in names:
        if item_id not in read_items(workspace.items_file(name)):
            continue
        upstream = open_upstream(workspace, name)
        record = upstream.records[item_id]
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for file_name in record.files:
            (folder / file_name).write_bytes(upstream.read(item_id, file_name))
            written.append(folder / file_name)
        facts: dict[str, Any] = {"id": record.id, "key": record.key, "frame": record.frame, "rung": record.rung}
        facts |= {"quality": dict(record.quality), "facts": dict(record.facts)}
        (folder / "record.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        written.append(folder / "record.json")
    return written


def retry(workspace: Workspace, stage: str, failure_class: str | None) -> int:
    """Re-open the exhausted items of a stage (of one class); returns how many.

    Raises ValueError for a class that no item failed with.
    """
    local, path = workspace.local(stage), workspace.failures_file(stage)
    with holding(local, stage), Ledger(local) as ledger:
        entries = json.loads(path.read_text()) if path.is_file() else []
        exhausted = [entry for entry in entries if entry["state"] == "exhausted"]
        classes = sorted({entry["class"] for entry in exhausted})
        if failure_class is not None and failure_class not in classes:
            raise ValueError(
                f"no item of {stage} failed with class {failure_class!r}; there are: {', '.join(classes) or 'none'}"
            )
        opened = [entry for entry in exhausted if failure_class in (None, entry["class"])]
        ledger.forgive([(entry["id"], entry["key"]) for entry in opened])
        kept = [entry for entry in entries if entry not in opened]
        rows = ",\n".join(
            json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False) for entry in kept
        )
        write_if_changed(path, f"[\n{rows}\n]\n".encode() if rows else b"[]\n")
    return len(opened)


def retry_degraded(workspace: Workspace, stage: str) -> int:
    """Have the items that were made at a reduced rung made again, at better ones only; returns how many.

    What is held stays published until something better is there, and for good where nothing better fits.
    """
    local = workspace.local(stage)
    with holding(local, stage), Ledger(local) as ledger:
        reduced = [record for record in read_items(workspace.items_file(stage)).values() if record.rung]
        pairs = [(record.id, record.key) for record in reduced]
        ledger.forgive(pairs)
        ledger.reopen(pairs)
    return len(pairs)


def _failure(workspace: Workspace, stage: str, item_id: str) -> dict[str, Any] | None:
    path = workspace.failures_file(stage)
    entries = json.loads(path.read_text()) if path.is_file() else []
    return next((entry for entry in entries if entry["id"] == item_id), None)

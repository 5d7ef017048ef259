"""`explain`, `show` and `retry`: one item at a time."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tasks.collections.holder import holding
from tasks.collections.ledger import Ledger
from tasks.collections.records import read_items
from tasks.collections.statcache import StatCache
from tasks.collections.summaries import DamagedSummary, known_failures, read_failures, write_failures
from tasks.commands.plan import differences
from tasks.engine.outcome import some_of
from tasks.engine.planning import make_recipe
from tasks.engine.stage import Stage
from tasks.engine.upstreams import planning_context, published_lines
from tasks.engine.worker import open_upstream
from tasks.order import load_stage
from tasks.params import Params
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

MIN_ID = 4
"""Characters of an id that are enough to name an item by its beginning."""
MAX_MEANT = 5
MIN_LIKENESS = 0.5


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


def find_item(workspace: Workspace, text: str, names: Iterable[str]) -> str:
    """The id that `text` means: an id, a label, or the beginning of just one of them. names: the stages to look in.

    Items that failed, were skipped or are blocked are known, too. Raises ValueError with what was probably meant.
    """
    labels = _known_labels(workspace, names)
    if text in labels:
        return text
    found = [item_id for item_id, label in labels.items() if label == text]
    found = found or [item_id for item_id, label in labels.items() if _begins(text, item_id, label)]
    if len(found) == 1:
        return found[0]
    if found:
        several = [f"{labels[item_id]} ({item_id})" for item_id in found]
        raise ValueError(f"{text!r} means {len(found)} items: {some_of(several, MAX_MEANT)}; give more of it")
    nearest = dict.fromkeys(get_close_matches(text, labels.values(), MAX_MEANT, MIN_LIKENESS))
    hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
    raise ValueError(f"unknown item {text!r} among {len(labels)}{hint}")


def _known_labels(workspace: Workspace, names: Iterable[str]) -> dict[str, str]:
    """Labels by id: of what ingest has published, and of what any stage failed at."""
    failed = {
        entry["id"]: str(entry["label"]) for name in names for entry in known_failures(workspace.failures_file(name))
    }
    records = read_items(workspace.items_file("ingest"))
    return failed | {record.id: str(record.facts.get("label", record.id)) for record in records.values()}


def _begins(text: str, item_id: str, label: str) -> bool:
    return label.startswith(text) or (len(text) >= MIN_ID and item_id.startswith(text))


def explain(
    workspace: Workspace, params: Params, versions: Mapping[str, int], item_id: str, names: Iterable[str]
) -> list[Explanation]:
    """Where the item stands at every collection stage, why, and every attempt that was made."""
    with closing(StatCache(workspace.stat_cache_file)) as stats:
        stages = [stage for stage in map(load_stage, names) if not stage.product]
        found = []
        for stage in stages:
            recipe = make_recipe(stage, params, versions, workspace, stats.digest)
            record = read_items(workspace.items_file(stage.name)).get(item_id)
            failure = _failure(workspace, stage.name, item_id)
            with Ledger(workspace.local(stage.name), reading=True) as ledger:
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


def _why_absent(
    stage: Stage, workspace: Workspace, params: Params, versions: Mapping[str, int], stats: StatCache, item_id: str
) -> str:
    upstreams = {name: published_lines(workspace, name, stats) for name in stage.upstreams_of(params)}
    context = planning_context(stage, workspace, params, stats, upstreams, versions)
    if reason := stage.unwanted(item_id, context):
        return reason
    first = stage.upstreams[0] if stage.upstreams else None
    if first and item_id not in context.upstreams[first].records:
        return f"{first} has not brought it here"
    return "not computed yet"


def show(workspace: Workspace, item_id: str, names: Iterable[str], out: Path) -> list[Path]:
    """Write the item's files of every stage to OUT/STAGE/NAME, its records beside them; returns what was written.

    Raises ValueError with the reason for an item that no stage has made anything of, and for a folder that is in use:
    files of two items, or two versions of one, would mix.
    """
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty, and files of several items would mix there; name a new folder")
    written, reasons = [], []
    for name in names:
        if item_id in read_items(workspace.items_file(name)):
            written += _show_stage(workspace, item_id, name, out / name)
        elif failure := _failure(workspace, name, item_id):
            reasons.append(f"{name}: {failure['class']}: {failure['message']}")
    if not written:
        raise ValueError(f"there is nothing to show of item {item_id}; {'; '.join(reasons) or 'no stage has made it'}")
    return written


def _show_stage(workspace: Workspace, item_id: str, name: str, folder: Path) -> list[Path]:
    upstream = open_upstream(workspace, name)
    record = upstream.records[item_id]
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"id": record.id, "key": record.key, "frame": record.frame, "rung": record.rung}
    facts |= {"quality": dict(record.quality), "facts": dict(record.facts)}
    for file_name in record.files:
        (folder / file_name).write_bytes(upstream.read(item_id, file_name))
    (folder / "record.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return [folder / file_name for file_name in (*record.files, "record.json")]


def retry(workspace: Workspace, stage: str, failure_class: str | None) -> int:
    """Re-open the exhausted items of a stage (of one class); returns how many.

    Raises ValueError for a class that no item failed with. Where failures.json is damaged, the ledger says what failed.
    """
    local, path = workspace.local(stage), workspace.failures_file(stage)
    with holding(stage, local, workspace.artifacts(stage)), Ledger(local) as ledger:
        try:
            entries = read_failures(path)
        except DamagedSummary as damaged:
            log.warning("%s", damaged)
            entries = [
                {"id": item_id, "key": key, "state": "exhausted", "class": attempts[-1].outcome}
                for (item_id, key), attempts in ledger.failures().items()
            ]
            path.unlink()
        exhausted = [entry for entry in entries if entry["state"] == "exhausted"]
        classes = sorted({entry["class"] for entry in exhausted})
        if failure_class is not None and failure_class not in classes:
            raise ValueError(
                f"no item of {stage} failed with class {failure_class!r}; there are: {', '.join(classes) or 'none'}"
            )
        opened = [entry for entry in exhausted if failure_class in (None, entry["class"])]
        ledger.forgive([(entry["id"], entry["key"]) for entry in opened])
        if path.is_file():
            write_failures(path, [entry for entry in entries if entry not in opened])
    return len(opened)


def retry_degraded(workspace: Workspace, stage: str) -> int:
    """Have the items that were made at a reduced rung made again, at better ones only; returns how many.

    What is published stays until something better is there, and for good where nothing better fits.
    """
    local = workspace.local(stage)
    with holding(stage, local, workspace.artifacts(stage)), Ledger(local) as ledger:
        reduced = [record for record in read_items(workspace.items_file(stage)).values() if record.rung]
        pairs = [(record.id, record.key) for record in reduced]
        ledger.forgive(pairs)
        ledger.reopen(pairs)
    return len(pairs)


def _failure(workspace: Workspace, stage: str, item_id: str) -> Mapping[str, Any] | None:
    entries = known_failures(workspace.failures_file(stage))
    return next((entry for entry in entries if entry["id"] == item_id), None)

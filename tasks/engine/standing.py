"""Where everything stands, as it was last published. Nothing here computes or changes an item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.collections.holder import holder
from tasks.collections.ledger import Ledger
from tasks.collections.summaries import known_failures, known_metrics
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Standing:
    """Where one stage stands: published counts, failures by class, who holds it, how its last run ended.

    notices: what people should know of its items besides; sentences.
    """

    stage: str
    items: Mapping[str, int]
    failures: Mapping[str, int]
    failed: list[Mapping[str, Any]]
    holder: str | None
    last_run: Mapping[str, object] | None
    notices: Sequence[str] = ()


def status(workspace: Workspace, names: Iterable[str]) -> list[Standing]:
    """Every stage as it was last published, and whether somebody works on it now."""
    return [_standing(workspace, name) for name in names]


def _standing(workspace: Workspace, name: str) -> Standing:
    entries = known_failures(workspace.failures_file(name))
    by_class = Counter(entry["class"] if entry["state"] == "exhausted" else entry["state"] for entry in entries)
    with Ledger(workspace.local(name), reading=True) as ledger:
        last_run = ledger.last_run()
    metrics = known_metrics(workspace.metrics_file(name))
    held_by = holder(workspace.local(name), workspace.artifacts(name))
    items, notices = metrics.get("items", {}), metrics.get("notices", [])
    return Standing(name, items, dict(by_class), entries, held_by, last_run, notices)

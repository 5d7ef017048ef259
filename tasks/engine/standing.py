"""Where everything stands, as it was last published. Nothing here computes or changes an item."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.collections.holder import holder
from tasks.collections.ledger import Ledger
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Standing:
    """Where one stage stands: published counts, failures by class, who holds it, how its last run ended."""

    stage: str
    items: Mapping[str, int]
    failures: Mapping[str, int]
    failed: list[Mapping[str, Any]]
    holder: str | None
    last_run: Mapping[str, object] | None


def status(workspace: Workspace, names: Iterable[str]) -> list[Standing]:
    """Every stage as it was last published, and whether somebody works on it now."""
    return [_standing(workspace, name) for name in names]


def _standing(workspace: Workspace, name: str) -> Standing:
    failures_file, metrics_file = workspace.failures_file(name), workspace.metrics_file(name)
    entries = json.loads(failures_file.read_text()) if failures_file.is_file() else []
    by_class: dict[str, int] = {}
    for entry in entries:
        word = entry["class"] if entry["state"] == "exhausted" else entry["state"]
        by_class[word] = by_class.get(word, 0) + 1
    last_run = None
    if (workspace.local(name) / "ledger.db").is_file():
        with Ledger(workspace.local(name)) as ledger:
            last_run = ledger.last_run()
    metrics = json.loads(metrics_file.read_text()) if metrics_file.is_file() else {}
    return Standing(name, metrics.get("items", {}), by_class, entries, holder(workspace.local(name)), last_run)

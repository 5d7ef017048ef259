"""The measured result of a workspace as a table: student, teacher and baselines beside the sampling floor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from models.casts import PARTS, known_metrics
from models.metric import Metric
from tasks.workspace import Workspace

METHODS = {
    "student": "student",
    "teacher": "teacher",
    "mean_shape": "class mean shape",
    "nearest": "nearest training mesh",
    "ellipsoid": "ellipsoid of the silhouettes",
    "icosphere_fit": "best icosphere fit (the student's ceiling)",
}
MOST_METRICS = 4


def results_table(workspace: Workspace) -> Table | None:
    """None where nothing has been evaluated against truth."""
    path = workspace.metrics_file("evaluate")
    metrics: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    split = next((name for name in ("test", "val", "train") if name in metrics), None)
    if split is None:
        return None
    rows = metrics[split]
    methods = {name: words for name, words in METHODS.items() if name in rows}
    methods |= {name: name for name, row in rows.items() if name != "by_class" and isinstance(row, dict)} | methods
    shown = [metric for metric in known_metrics() if any(metric.name in rows[name] for name in methods)]
    shown = [metric for metric in shown if metric.name not in PARTS][:MOST_METRICS]
    table = Table(title=f"{rows['num_items']} {split} items", box=None, header_style="bold", title_justify="left")
    table.add_column("")
    for words in (*(metric.title for metric in shown), "against mean shape"):
        table.add_column(words, justify="right")
    compared = metrics.get("against_mean_shape", {})
    for method, words in methods.items():
        row = rows[method]
        against = _change(compared[method], row["num_items"]) if method in compared else ""
        table.add_row(words, *(_figure(metric, row) for metric in shown), against)
    floor = metrics["floor"]
    table.add_row("truth, sampled twice (floor)", *(_figure(metric, floor) for metric in shown), "", style="dim")
    return table


def _figure(metric: Metric, row: Mapping[str, Any]) -> str:
    return metric.shown(row[metric.name]) if metric.name in row else "–"


def _change(compared: Mapping[str, Any], num_items: int) -> str:
    """-44%, and of how many of the method's items where some have no mean shape."""
    shared = "" if compared["num_items"] == num_items else f" ({compared['num_items']} items)"
    return f"{compared['ratio'] - 1:+.0%}{shared}"

"""The measured result of a workspace as a table: student, teacher and baselines beside the sampling floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from models.casts import PARTS, known_metrics
from models.metric import Metric
from tasks.collections.summaries import read_metrics
from tasks.engine.outcome import counted
from tasks.workspace import Workspace

METHODS = {
    "student": "student",
    "teacher": "teacher",
    "mean_shape": "class mean shape",
    "nearest": "nearest training mesh",
    "ellipsoid": "ellipsoid of the silhouettes",
    "icosphere_fit": "sphere bent to the truth (mesh_deform's ceiling)",
}
MOST_METRICS = 4


def results_tables(workspace: Workspace) -> list[Table]:
    """One of the items with truth and one, by proxies, of those without; none where nothing has been evaluated."""
    metrics = read_metrics(workspace.metrics_file("evaluate"))
    split = next((name for name in ("test", "val", "train") if name in metrics), None)
    tables = []
    if split is not None and metrics[split]["num_items"]:
        tables.append(_against_truth(metrics, split))
    if "proxy" in metrics:
        tables.append(_by_proxies(metrics["proxy"]))
    return tables


def _against_truth(metrics: Mapping[str, Any], split: str) -> Table:
    rows = metrics[split]
    methods, shown = _methods(rows), _shown(rows)
    title = counted(rows["num_items"], f"{split} item")
    table = _table(title, [*(metric.title for metric in shown), "against mean shape"])
    compared = metrics.get("against_mean_shape", {})
    for method, words in methods.items():
        row = rows[method]
        against = _change(compared[method], row["num_items"]) if method in compared else ""
        table.add_row(words, *(_figure(metric, row) for metric in shown), against)
    floor = metrics["floor"]
    table.add_row("truth, sampled twice (floor)", *(_figure(metric, floor) for metric in shown), "", style="dim")
    return table


def _by_proxies(rows: Mapping[str, Any]) -> Table:
    """They say how closely a cast follows the teacher or the photos, not that it is right."""
    shown = _shown(rows)
    table = _table(f"{counted(rows['num_items'])} without truth, by proxies", [metric.title for metric in shown])
    for method, words in _methods(rows).items():
        table.add_row(words, *(_figure(metric, rows[method]) for metric in shown))
    return table


def _methods(rows: Mapping[str, Any]) -> dict[str, str]:
    """Names of the measured methods and what they are called; the known ones first."""
    known = {name: words for name, words in METHODS.items() if name in rows}
    others = [name for name, row in rows.items() if isinstance(row, dict) and name not in (*known, "by_class")]
    return known | {name: name for name in others}


def _shown(rows: Mapping[str, Any]) -> list[Metric]:
    """The first metrics that any method has."""
    present = {name for method in _methods(rows) for name in rows[method]} - set(PARTS)
    return [metric for metric in known_metrics() if metric.name in present][:MOST_METRICS]


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold")
    table.add_column(title)
    for words in columns:
        table.add_column(words, justify="right")
    return table


def _figure(metric: Metric, row: Mapping[str, Any]) -> str:
    return metric.shown(row[metric.name]) if metric.name in row else "–"


def _change(compared: Mapping[str, Any], num_items: int) -> str:
    """-44%, and of how many of the method's items where some have no mean shape."""
    shared = "" if compared["num_items"] == num_items else f" ({compared['num_items']} items)"
    return f"{compared['ratio'] - 1:+.0%}{shared}"

"""The measured result of a workspace as a table: student, teacher and baselines beside the sampling floor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from tasks.workspace import Workspace

METHODS = {
    "student": "student",
    "teacher": "teacher",
    "mean_shape": "class mean shape",
    "nearest": "nearest training mesh",
    "ellipsoid": "ellipsoid of the silhouettes",
    "icosphere_fit": "best icosphere fit (the student's ceiling)",
}
METRICS = {"chamfer": "Chamfer", "fscore": "F-score", "normal_consistency": "normals", "iou": "IoU"}


def results_table(workspace: Workspace) -> Table | None:
    """None where nothing has been evaluated against truth."""
    path = workspace.metrics_file("evaluate")
    metrics: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    split = next((name for name in ("test", "val", "train") if name in metrics), None)
    if split is None:
        return None
    rows = metrics[split]
    table = Table(title=f"{rows['num_items']} {split} items", box=None, header_style="bold", title_justify="left")
    table.add_column("")
    for words in (*METRICS.values(), "against mean shape"):
        table.add_column(words, justify="right")
    compared = metrics.get("against_mean_shape", {})
    for method, words in METHODS.items():
        if method in rows:
            row = rows[method]
            against = _change(compared[method], row["num_items"]) if method in compared else ""
            table.add_row(words, *(f"{row[name]:.4f}" for name in METRICS), against)
    floor = metrics["floor"]
    table.add_row("truth, sampled twice (floor)", *(f"{floor[name]:.4f}" for name in METRICS), "", style="dim")
    return table


def _change(compared: Mapping[str, Any], num_items: int) -> str:
    """-44%, and of how many of the method's items where some have no mean shape."""
    shared = "" if compared["num_items"] == num_items else f" ({compared['num_items']} items)"
    return f"{compared['chamfer_ratio'] - 1:+.0%}{shared}"

"""How the training went: losses, validation and schedule from the histories of train."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from tasks.collections.records import Record
from tasks.engine.stage import Json, Upstream
from tasks.stages.report.charts import Curve, lines, short
from tasks.stages.report.markup import Html, tag
from tasks.stages.students import MAIN
from tasks.stages.train import HISTORY

TERMS = {"teacher": "teacher", "truth": "truth", "edge": "c1", "laplacian": "c2", "normal": "c3"}
"""Inks of the loss terms; others take what is left."""
SPARE = ("c4", "c5", "c1", "c2", "c3")


def section(train: Upstream) -> Html:
    """Charts of each student's training, the main one's first, or a sentence where nothing was trained."""
    heading = tag("h2", {}, "Training")
    names = sorted(train.records, key=lambda name: (name != MAIN, name))
    if not names:
        return tag("section", {"id": "training"}, heading, tag("p", {"class": "none"}, "No student has been trained."))
    parts = [part for name in names for part in _student(train, train.records[name])]
    return tag("section", {"id": "training"}, heading, *parts)


def _student(train: Upstream, record: Record) -> list[Html]:
    name = str(record.facts["student"]) if record.id == MAIN else f"{record.id} ({record.facts['student']})"
    history = json.loads(train.read(record.id, HISTORY))
    steps, epochs = history["steps"], history["epochs"]
    selected = f"val_{record.quality['selected_by']}"
    charts = [
        lines("Loss terms, raw", _terms(steps, "raw"), "step", "as measured, log scale", log=True),
        lines("Loss terms, weighted", _weighted(steps), "step", "as they add up to the total, log scale", log=True),
        lines("Validation", _validation(epochs, selected), "step", "of the averaged weights, log scale", log=True),
        lines("Learning rate", [Curve("rate", _points(steps, "learning_rate"), "c1")], "step", "as scheduled"),
    ]
    quality = {name: value for name, value in record.quality.items() if value}
    facts = [
        f"best {name.removeprefix('val_')}: {_shown(value)}" for name, value in quality.items() if name in epochs[-1]
    ]
    facts += [f"{title}: {_shown(quality[name])}" for name, title in FACTS.items() if name in quality]
    foot = "; ".join([*_warm_start(record), *facts, "curves are averaged into at most 240 points"])
    grid = tag("div", {"class": "charts"}, *charts)
    return [tag("h3", {}, name), grid, tag("p", {"class": "foot"}, foot + ".")]


def _warm_start(record: Record) -> list[str]:
    """What it went out from, where that was a student and not chance."""
    if "warm_from" not in record.facts:
        return []
    return [f"a warm start: {record.facts['warm_epochs']} epochs from the student {record.facts['warm_from'][:8]}"]


FACTS = {
    "val_is_proxy": "a proxy, for want of truth",
    "num_steps": "steps",
    "num_parameters": "parameters",
    "num_train": "training items",
    "num_val": "validation items",
    "num_without_truth": "trained on without truth",
    "num_reduced": "trained on a teacher at reduced quality",
}


def _shown(value: Json) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return short(value) if isinstance(value, float) else str(value)


def _terms(steps: Sequence[Mapping[str, Json]], kind: str) -> list[Curve]:
    names = dict.fromkeys(name for row in steps for name in row.get(kind, {}))
    spare = iter(SPARE)
    inks = {name: TERMS.get(name) or next(spare, "plain") for name in names}
    rows = [{"step": row["step"], **row.get(kind, {})} for row in steps]
    return [Curve(name, _points(rows, name), ink) for name, ink in inks.items()]


def _weighted(steps: Sequence[Mapping[str, Json]]) -> list[Curve]:
    return [Curve("total", _points(steps, "loss"), "student"), *_terms(steps, "weighted")]


def _validation(epochs: Sequence[Mapping[str, Json]], selected: str) -> list[Curve]:
    """The metric that decides."""
    return [Curve(selected.removeprefix("val_"), _points(epochs, selected), "student")]


def _points(rows: Iterable[Mapping[str, Json]], name: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(row["step"]), float(row[name])) for row in rows if row.get(name) is not None)

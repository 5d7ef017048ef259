"""The page, put together. Style and script are inlined: it loads nothing, and reads without the script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.engine.stage import Context, Json
from tasks.engine.standing import Standing, status
from tasks.order import ORDER
from tasks.stages.evaluate.methods import STUDENT
from tasks.stages.evaluate.results import by_item
from tasks.stages.report import Report, ReportParams, curves, figures, gate, health, lineage, objects, recipes
from tasks.stages.report.figures import Scores
from tasks.stages.report.gallery import Gallery
from tasks.stages.report.markup import Html, join, tag
from tasks.workspace import Workspace

HERE = Path(__file__).parent
CONTENTS = {
    "quality": "Quality",
    "gallery": "Side by side",
    "objects": "Objects",
    "gate": "Gate",
    "training": "Training",
    "health": "Pipeline",
    "lineage": "Lineage",
}


def make_page(context: Context) -> str:
    """The HTML of the report. Whatever is absent is said in words. Raises Unavailable where strips need GL in vain."""
    params: ReportParams = context.params.stage(Report.name)
    workspace = context.paths
    upstreams = context.upstreams
    stages = ORDER[: ORDER.index(Report.name)]
    standings = status(workspace, stages)
    scores = Scores.load(workspace.metrics_file("evaluate"), context.params.stage("evaluate").split)
    evaluated = by_item(upstreams["evaluate"].records.values())
    pictures = Gallery(
        upstreams,
        evaluated,
        scores.metric,
        _reasons(standings),
        params.strip_views,
        params.strip_size_px,
        context.progress,
    )
    body = [
        _header(params.title, scores, context),
        figures.section(scores, evaluated, _latencies(workspace)),
        pictures.section(params.num_items),
        pictures.every_item(params.most_rows),
        objects.section(upstreams, params.num_objects),
        gate.section(upstreams, context.params.stage("gate"), params.num_gate_items),
        curves.section(upstreams["train"]),
        health.section(standings, health.medians(workspace, stages), params.most_rows),
        lineage.section(upstreams, recipes(context)),
    ]
    return document(params.title, body)


def document(title: str, body: Sequence[Html]) -> str:
    """A whole HTML document around the body's parts."""
    head = [
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("title", {}, title),
        tag("style", {}, Html((HERE / "style.css").read_text())),
    ]
    script = tag("script", {}, Html((HERE / "script.js").read_text()))
    page = tag("html", {"lang": "en"}, tag("head", {}, *head), tag("body", {}, tag("main", {}, *body), script))
    return join([Html("<!doctype html>\n"), page, "\n"])


def _header(title: str, scores: Scores, context: Context) -> Html:
    links = [tag("a", {"href": f"#{anchor}"}, name) for anchor, name in CONTENTS.items()]
    params = context.params
    made = [
        f"student {params.stage('train').student}",
        f"teacher {params.stage('teach').teacher}",
        f"encoder {params.stage('features').encoder}",
        f"{scores.num_items} {scores.split} items with truth",
    ]
    if scores.num_proxy_items:
        made.append(f"{scores.num_proxy_items} without")
    return tag(
        "header",
        {"class": "top"},
        tag("h1", {}, title),
        tag("p", {"class": "headline"}, figures.headline(scores)),
        tag("p", {"class": "made"}, " · ".join(made)),
        tag("nav", {}, *links),
    )


def _latencies(workspace: Workspace) -> dict[str, Mapping[str, Json]]:
    """What evaluate timed on this machine, by the student's method."""
    found = {}
    for path in sorted(workspace.local("evaluate").glob("latency*.json")):
        name = path.stem.partition(".")[2] or STUDENT
        found[name] = json.loads(path.read_bytes())
    return found


def _reasons(standings: Sequence[Standing]) -> dict[str, dict[str, str]]:
    """Why items are absent from a stage, by stage and item id."""
    return {
        standing.stage: {entry["id"]: f"{entry['state']}: {entry['message']}" for entry in standing.failed}
        for standing in standings
    }

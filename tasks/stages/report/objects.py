"""What the objects look like as they came in: whoever sees one lie on its side learns how to turn it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from models.errors import BadInput
from tasks.collections.records import Record
from tasks.engine.stage import Upstream
from tasks.stages.report import strips
from tasks.stages.report.markup import Html, tag

FRONT = "view.front.png"
SIZE_PX = 128
"""Longest side of a picture."""


def section(upstreams: Mapping[str, Upstream], num_items: int) -> Html:
    """A contact sheet of at most num_items objects from all over the collection."""
    ingested, views = upstreams["ingest"].records, upstreams["views"]
    heading = tag("h2", {}, "The objects")
    step = max(1, len(ingested) // max(1, num_items))
    chosen = list(islice(ingested, 0, step * num_items, step))
    figures = [_figure(views, item_id, ingested[item_id]) for item_id in chosen]
    if not figures:
        return tag("section", {"id": "objects"}, heading, tag("p", {"class": "none"}, "No object is shown."))
    note = (
        f"{len(figures)} of {len(ingested)} objects from the front, or as their photo shows them. Those that lie on "
        "their side have another axis that points up: set ingest.up_axis."
    )
    sheet = tag("div", {"class": "sheet"}, *figures)
    return tag("section", {"id": "objects"}, heading, tag("p", {"class": "lead"}, note), sheet)


def _figure(views: Upstream, item_id: str, ingested: Record) -> Html:
    facts = ingested.facts
    label, split = str(facts.get("label", item_id)), str(facts.get("split", ""))
    caption = tag("figcaption", {}, tag("b", {}, label), " ", tag("span", {}, f"{facts.get('class', '')}, {split}"))
    return tag("figure", {}, tag("div", {"class": "stage"}, _picture(views, item_id, label)), caption)


def _picture(views: Upstream, item_id: str, label: str) -> Html:
    """The front view, or the first that there is; words where there is none."""
    record = views.records.get(item_id)
    names = sorted(name for name in record.files if name.startswith("view.")) if record else []
    if not names:
        return tag("span", {}, "no view of it")
    try:
        uri = strips.thumbnail(views.read(item_id, FRONT if FRONT in names else names[0]), SIZE_PX)
    except BadInput as error:
        return tag("span", {}, str(error))
    return tag("img", {"src": uri, "alt": f"{label} as it was ingested", "loading": "lazy"})

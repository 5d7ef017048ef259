"""The items to look at: the worst, the best and typical ones, inputs above truth, teacher, student and mean shape."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from models.errors import BadInput
from tasks.collections.records import Record
from tasks.engine.stage import Json, Upstream
from tasks.stages.report import strips
from tasks.stages.report.figures import METRICS, PROXIES, method, shown
from tasks.stages.report.markup import Html, heads, table, tag

ROWS = (
    ("truth", "ingest", "mesh.glb"),
    ("teacher", "teach", "mesh.glb"),
    ("student", "evaluate", "student.glb"),
    ("mean_shape", "evaluate", "mean_shape.glb"),
)
"""What is shown of an item: method, stage, file."""
SHOWN_METRICS = ("chamfer", "fscore", "iou", *PROXIES)


@dataclass(frozen=True)
class Chosen:
    """An evaluated item and why it is shown."""

    id: str
    why: str


def choose(records: Mapping[str, Record], num_items: int) -> list[Chosen]:
    """Worst, typical and best items by the student's Chamfer, in this order; at most a quarter without truth.

    Items without truth come last, those farthest from the teacher first.
    """
    true = sorted(_by(records, "truth", "chamfer"))
    proxies = sorted(_by(records, "proxy", "proxy_chamfer_to_teacher"), reverse=True)
    num_proxies = min(len(proxies), num_items if not true else num_items // 4)
    num_true = min(len(true), num_items - num_proxies)
    return [*_spread(true, num_true), *(Chosen(item_id, "no truth") for _, item_id in proxies[:num_proxies])]


def _by(records: Mapping[str, Record], basis: str, metric: str) -> list[tuple[float, str]]:
    """(the student's figure, id) of the items of a basis; an item without the figure counts as 0."""
    return [
        (float(record.quality.get("student", {}).get(metric, 0.0)), item_id)
        for item_id, record in records.items()
        if record.facts.get("basis") == basis
    ]


def _spread(ranked: Sequence[tuple[float, str]], count: int) -> list[Chosen]:
    """`count` of the ranked items: three eighths from the worst end, a quarter from the best, the others typical."""
    num_worst = (3 * count + 7) // 8
    num_best = min(max(1, count // 4), count - num_worst)
    num_typical = count - num_worst - num_best
    middle = ranked[num_best : len(ranked) - num_worst]
    typical = []
    if num_typical:
        median = statistics.median(value for value, _ in ranked)
        typical = sorted(sorted(middle, key=lambda pair: abs(pair[0] - median))[:num_typical], reverse=True)
    worst = list(reversed(ranked[len(ranked) - num_worst :]))
    best = list(reversed(ranked[:num_best]))
    named = (("worst", worst), ("typical", typical), ("best", best))
    return [Chosen(item_id, why) for why, pairs in named for _, item_id in pairs]


@dataclass(frozen=True)
class Gallery:
    """Draws the cards. failures: why an item is absent from a stage, by stage and item id."""

    upstreams: Mapping[str, Upstream]
    failures: Mapping[str, Mapping[str, str]]
    strip_views: int
    strip_size_px: int
    progress: Callable[[str], None]

    def section(self, num_items: int) -> Html:
        records = self.upstreams["evaluate"].records
        chosen = choose(records, num_items)
        heading = tag("h2", {}, "Side by side")
        if not chosen:
            nothing = tag("p", {"class": "none"}, "No item has been evaluated, so there is none to show.")
            return tag("section", {"id": "gallery"}, heading, nothing)
        cards = []
        for number, choice in enumerate(chosen):
            self.progress(f"strips of item {number + 1} of {len(chosen)}")
            cards.append(self._card(choice))
        note = (
            f"{len(chosen)} of {len(records)} evaluated items: worst, typical and best by the student’s Chamfer. Each "
            "row is a full turn, from the front; all rows are rendered alike. Figures are against the truth; where "
            "there is none they are proxies and named so."
        )
        grid = tag("div", {"class": "cards"}, *cards)
        return tag("section", {"id": "gallery"}, heading, tag("p", {"class": "lead"}, note), grid)

    def _card(self, choice: Chosen) -> Html:
        record = self.upstreams["evaluate"].records[choice.id]
        facts = self._facts(choice.id)
        head = tag(
            "header",
            {},
            tag("b", {}, str(facts.get("label", choice.id))),
            tag("span", {"class": "class"}, str(record.facts.get("class", ""))),
            tag("span", {"class": f"why why-{choice.why.replace(' ', '-')}"}, choice.why),
        )
        turns, absent = self._turns(choice.id)
        rows = [self._inputs(choice.id)]
        for name, _, _ in ROWS:
            title = "Truth" if name == "truth" else method(name).title
            if name in turns:
                picture = {"src": turns[name], "alt": f"{title}, {self.strip_views} views around it"}
                strip = tag("div", {"class": "stage"}, tag("img", picture))
            else:
                strip = _absent(absent[name])
            rows.append(tag("div", {"class": "row"}, _row_name(name, title, record), strip))
        return tag("article", {"class": "card"}, head, *rows)

    def _turns(self, item_id: str) -> tuple[dict[str, str], dict[str, str]]:
        """Strips by method, all to one scale, and for the others why there is none."""
        drawn, absent = {}, {}
        for name, stage, file in ROWS:
            upstream = self.upstreams[stage]
            held = upstream.records.get(item_id)
            if held is None or file not in held.files:
                absent[name] = self._why_absent(item_id, stage)
                continue
            try:
                drawn[name] = strips.turntable(upstream.read(item_id, file), self.strip_views, self.strip_size_px)
            except BadInput as error:
                absent[name] = str(error)
        return dict(zip(drawn, strips.fitted(list(drawn.values())), strict=True)), absent

    def _facts(self, item_id: str) -> Mapping[str, Json]:
        found = self.upstreams["ingest"].records.get(item_id)
        return found.facts if found else {}

    def _inputs(self, item_id: str) -> Html:
        name = tag("div", {"class": "row-name"}, tag("b", {}, "Input"))
        features, matte = (self.upstreams[stage].records.get(item_id) for stage in ("features", "matte"))
        views = [str(view) for view in features.facts.get("views", [])] if features else []
        files = [f"view.{view}.png" for view in views if matte and f"view.{view}.png" in matte.files]
        if not files:
            return tag("div", {"class": "row"}, name, _absent("the views it was made from are not kept"))
        try:
            uri = strips.inputs([self.upstreams["matte"].read(item_id, file) for file in files], self.strip_size_px)
        except BadInput as error:
            return tag("div", {"class": "row"}, name, _absent(str(error)))
        share = 100 * min(1.0, len(files) / self.strip_views)
        picture = {"src": uri, "alt": f"input views: {', '.join(views)}", "style": f"width:{share:.2f}%"}
        return tag("div", {"class": "row input"}, name, tag("div", {"class": "stage"}, tag("img", picture)))

    def _why_absent(self, item_id: str, stage: str) -> str:
        if stage == "ingest":
            return f"no true mesh: the item is a {str(self._facts(item_id).get('kind', 'photo')).replace('_', ' ')}"
        if why := self.failures.get(stage, {}).get(item_id):
            return why
        return "no mesh was made" if stage == "teach" else "not among the baselines, or not to be had for this class"


def _row_name(name: str, title: str, record: Record) -> Html:
    quality = record.quality.get(name, {})
    figures = [
        tag("span", {}, f"{(METRICS | PROXIES)[metric][0]} ", tag("em", {}, shown(metric, quality[metric])))
        for metric in SHOWN_METRICS
        if metric in quality
    ]
    return tag("div", {"class": f"row-name is-{name}"}, tag("b", {}, title), *figures)


def _absent(why: str) -> Html:
    return tag("div", {"class": "stage absent"}, tag("span", {}, why))


def every_item(upstreams: Mapping[str, Upstream], most_rows: int) -> Html:
    """All evaluated items as a table, worst first, folded away."""
    records = upstreams["evaluate"].records
    ranked = sorted(_by(records, "truth", "chamfer"), reverse=True)[:most_rows]
    if not ranked:
        return tag("div")
    names = list(dict.fromkeys(name for _, item_id in ranked for name in records[item_id].quality))
    ingest = upstreams["ingest"].records
    rows = []
    for _, item_id in ranked:
        record = records[item_id]
        label = str(ingest[item_id].facts.get("label", item_id)) if item_id in ingest else item_id
        figures = [record.quality.get(name, {}).get("chamfer") for name in names]
        cells = [tag("td", {"class": "num"}, "–" if figure is None else shown("chamfer", figure)) for figure in figures]
        rows.append(
            tag(
                "tr",
                {},
                tag("th", {"scope": "row"}, label),
                tag("td", {}, str(record.facts.get("class", ""))),
                *cells,
                tag("td", {"class": "id"}, item_id),
            )
        )
    titles = [*heads("Item", "Class", num=[method(name).title for name in names]), *heads("Id")]
    left_out = sum(record.facts.get("basis") == "truth" for record in records.values()) - len(ranked)
    more = f", {left_out} better ones left out" if left_out else ""
    summary = tag("summary", {}, f"Chamfer of every item with truth ({len(ranked)} rows, worst first{more})")
    return tag("details", {}, summary, table(titles, rows, "sortable"))

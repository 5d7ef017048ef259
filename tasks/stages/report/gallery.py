"""The items to look at: the worst, the best and typical ones, inputs above truth, teacher, student and mean shape."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from models import plugins
from models.casts import MESH, mesh, stored_kinds
from models.errors import BadInput
from models.geometry import ByteArray
from models.metric import Metric
from tasks.engine.stage import Json, Upstream
from tasks.stages.evaluate.results import Evaluated
from tasks.stages.report import strips
from tasks.stages.report.figures import method, metrics
from tasks.stages.report.markup import Html, heads, table, tag

SOURCES = {"truth": "ingest", "teacher": "teach"}
"""The stages whose casts are shown, meshes with their textures, by method."""
NOT_DRAWN = "it has no pictures from these sides"
MOST_METRICS = 3


@dataclass(frozen=True)
class Chosen:
    """An evaluated item and why it is shown."""

    id: str
    why: str


def choose(items: Mapping[str, Evaluated], num_items: int, metric: Metric) -> list[Chosen]:
    """Worst, typical and best items by the student's leading metric, in this order; at most a quarter without truth.

    Items without truth come last, those farthest from the teacher first.
    """
    true = sorted(_by(items, "truth", metric.name), reverse=metric.better == "higher")
    proxies = sorted(_by(items, "proxy", "proxy_chamfer_to_teacher"), reverse=True)
    num_proxies = min(len(proxies), num_items if not true else num_items // 4)
    num_true = min(len(true), num_items - num_proxies)
    return [*_spread(true, num_true), *(Chosen(item_id, "no truth") for _, item_id in proxies[:num_proxies])]


def _by(items: Mapping[str, Evaluated], basis: str, metric: str) -> list[tuple[float, str]]:
    """(the student's figure, id) of the items of a basis; an item without the figure counts as 0."""
    return [
        (float(item.quality.get("student", {}).get(metric, 0.0)), item_id)
        for item_id, item in items.items()
        if item.basis == basis
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
    """Draws the cards. items: evaluated ones, by id. failures: why an item is absent from a stage, by stage and id."""

    upstreams: Mapping[str, Upstream]
    items: Mapping[str, Evaluated]
    metric_name: str
    failures: Mapping[str, Mapping[str, str]]
    strip_views: int
    strip_size_px: int
    progress: Callable[[str], None]

    def section(self, num_items: int) -> Html:
        metric = metrics(proxies=False)[self.metric_name]
        chosen = choose(self.items, num_items, metric)
        heading = tag("h2", {}, "Side by side")
        if not chosen:
            nothing = tag("p", {"class": "none"}, "No item has been evaluated, so there is none to show.")
            return tag("section", {"id": "gallery"}, heading, nothing)
        cards = []
        for number, choice in enumerate(chosen):
            self.progress(f"strips of item {number + 1} of {len(chosen)}")
            cards.append(self._card(choice))
        note = (
            f"{len(chosen)} of {len(self.items)} evaluated items, worst to best by the student’s {metric.title}. Each "
            "row is a full turn, from the front; all rows are rendered alike. Figures are against the truth; where "
            "there is none they are proxies and named so."
        )
        grid = tag("div", {"class": "cards"}, *cards)
        return tag("section", {"id": "gallery"}, heading, tag("p", {"class": "lead"}, note), grid)

    def every_item(self, most_rows: int) -> Html:
        """All evaluated items as a table, worst first, folded away."""
        metric = metrics(proxies=False)[self.metric_name]
        ranked = sorted(_by(self.items, "truth", metric.name), reverse=metric.better == "lower")[:most_rows]
        if not ranked:
            return tag("div")
        names = list(dict.fromkeys(name for _, item_id in ranked for name in self.items[item_id].quality))
        rows = []
        for _, item_id in ranked:
            item = self.items[item_id]
            label = str(self._facts(item_id).get("label", item_id))
            figures = [item.quality.get(name, {}).get(metric.name) for name in names]
            cells = [tag("td", {"class": "num"}, "–" if figure is None else metric.shown(figure)) for figure in figures]
            rows.append(
                tag(
                    "tr",
                    {},
                    tag("th", {"scope": "row"}, label),
                    tag("td", {}, item.label_class),
                    *cells,
                    tag("td", {"class": "id"}, item_id),
                )
            )
        titles = [*heads("Item", "Class", num=[method(name).title for name in names]), *heads("Id")]
        left_out = sum(item.basis == "truth" for item in self.items.values()) - len(ranked)
        more = f", {left_out} better ones left out" if left_out else ""
        summary = tag("summary", {}, f"{metric.title} of every item with truth ({len(ranked)} rows, worst first{more})")
        return tag("details", {}, summary, table(titles, rows, "sortable"))

    def _card(self, choice: Chosen) -> Html:
        item = self.items[choice.id]
        facts = self._facts(choice.id)
        head = tag(
            "header",
            {},
            tag("b", {}, str(facts.get("label", choice.id))),
            tag("span", {"class": "class"}, item.label_class),
            tag("span", {"class": f"why why-{choice.why.replace(' ', '-')}"}, choice.why),
        )
        turns, absent = self._turns(item)
        rows = [self._inputs(choice.id)]
        for name in (*turns, *absent):
            title = "Truth" if name == "truth" else method(name).title
            if name in turns:
                picture = {"src": turns[name], "alt": f"{title}, {self.strip_views} views around it"}
                strip = tag("div", {"class": "stage"}, tag("img", picture))
            else:
                strip = _absent(absent[name])
            rows.append(tag("div", {"class": "row"}, _row_name(name, title, item), strip))
        return tag("article", {"class": "card"}, head, *rows)

    def _turns(self, item: Evaluated) -> tuple[dict[str, str], dict[str, str]]:
        """Strips by method, all to one scale, and for the others why there is none."""
        drawn, absent = {}, {}
        for name in (*SOURCES, *(name for name, record in item.records.items() if record.files)):
            try:
                drawn[name] = self._source_turn(item.id, name) if name in SOURCES else self._cast_turn(item, name)
            except (BadInput, LookupError) as error:
                absent[name] = str(error).strip("'")
        return dict(zip(drawn, strips.fitted(list(drawn.values())), strict=True)), absent

    def _source_turn(self, item_id: str, name: str) -> ByteArray:
        """A turn around what was not made here: a mesh with its textures, else the first cast that can be drawn.

        Raises LookupError: why there is none.
        """
        upstream = self.upstreams[SOURCES[name]]
        record = upstream.records.get(item_id)
        kinds = stored_kinds(record.files) if record else {}
        if MESH in kinds:
            return strips.turntable(upstream.read(item_id, mesh.FILE), self.strip_views, self.strip_size_px)
        for kind, files in kinds.items():
            drawn = self._drawn(kind, {file: upstream.read(item_id, file) for file in files})
            if drawn is not None:
                return drawn
        raise LookupError(NOT_DRAWN if kinds else self._why_absent(item_id, SOURCES[name]))

    def _cast_turn(self, item: Evaluated, name: str) -> ByteArray:
        """A turn around a cast. Raises LookupError where it cannot be drawn from all sides."""
        record = item.records[name]
        files = {file: self.upstreams["evaluate"].read(record.id, file) for file in record.files}
        if (drawn := self._drawn(record.facts["kind"], files)) is None:
            raise LookupError(NOT_DRAWN)
        return drawn

    def _drawn(self, kind_name: str, files: Mapping[str, bytes]) -> ByteArray | None:
        """A turn around a stored cast, as its kind draws it."""
        from models.rendering import turntable_cameras

        kind = plugins.load("casts", kind_name)
        cameras = turntable_cameras(self.strip_views, self.strip_size_px)
        drawn: ByteArray | None = kind.rendering(kind.from_files(files), cameras, self.strip_size_px)
        return drawn

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
        return "no mesh was made"


def _row_name(name: str, title: str, item: Evaluated) -> Html:
    quality = item.quality.get(name, {})
    known = metrics(proxies=False) | metrics(proxies=True)
    names = [metric for metric in known if metric in quality][:MOST_METRICS]
    figures = [tag("span", {}, f"{known[one].title} ", tag("em", {}, known[one].shown(quality[one]))) for one in names]
    return tag("div", {"class": f"row-name is-{name}"}, tag("b", {}, title), *figures)


def _absent(why: str) -> Html:
    return tag("div", {"class": "stage absent"}, tag("span", {}, why))

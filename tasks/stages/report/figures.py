"""The comparison: student, teacher and baselines over the evaluated split, read from evaluate's metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.casts import known_metrics
from models.metric import Metric
from tasks.collections.summaries import read_metrics
from tasks.engine.outcome import counted
from tasks.engine.stage import Json
from tasks.stages.evaluate.results import Evaluated
from tasks.stages.report.charts import Dot, dots
from tasks.stages.report.markup import Html, heads, join, table, tag, text


@dataclass(frozen=True)
class Method:
    """How a method is called, explained in a few words, and coloured."""

    title: str
    note: str
    ink: str


METHODS = {
    "student": Method("Student", "the network trained here", "student"),
    "teacher": Method("Teacher", "what it learned from", "teacher"),
    "nearest": Method("Nearest training mesh", "by its features; makes nothing new", "plain"),
    "mean_shape": Method("Mean shape", "of the class, without looking at the item", "plain"),
    "ellipsoid": Method("Ellipsoid", "fitted to the silhouettes", "plain"),
    "icosphere_fit": Method("Icosphere fit", "a sphere bent to the truth itself: mesh_deform's ceiling", "plain"),
}
SIMPLE = ("nearest", "mean_shape", "ellipsoid")
"""Baselines that a student should beat. (The icosphere's fit has seen the truth.)"""
PARTS = ("accuracy", "completeness")
"""Halves of the Chamfer distance: left to metrics.json."""


def metrics(*, proxies: bool) -> dict[str, Metric]:
    """The metrics that tables show, by name, of every kind of cast."""
    return {one.name: one for one in known_metrics() if one.is_proxy == proxies and one.name not in PARTS}


def shown(metric: str, value: float) -> str:
    """A figure as its metric is printed."""
    return (metrics(proxies=False) | metrics(proxies=True))[metric].shown(value)


def method(name: str) -> Method:
    """A method by the name it has in records; an unknown one keeps its name."""
    return METHODS.get(name) or Method(name.replace("_", " "), "", "plain")


@dataclass(frozen=True)
class Scores:
    """evaluate's metrics.json, with one door to each part; a part that is absent is empty."""

    metrics: Mapping[str, Json]
    split: str

    @staticmethod
    def load(path: Path, split: str) -> Scores:
        return Scores(read_metrics(path), split)

    @property
    def pooled(self) -> dict[str, Mapping[str, Json]]:
        """Figures by method over the items with truth, in the order of METHODS."""
        return _methods(self.metrics.get(self.split, {}))

    @property
    def by_class(self) -> dict[str, dict[str, Mapping[str, Json]]]:
        classes = self.metrics.get(self.split, {}).get("by_class", {})
        return {name: _methods(pool) for name, pool in classes.items()}

    @property
    def proxies(self) -> dict[str, Mapping[str, Json]]:
        """Figures by method over the items without truth."""
        return _methods(self.metrics.get("proxy", {}))

    @property
    def metric(self) -> str:
        """The leading one."""
        return str(self.metrics.get("metric", "chamfer"))

    @property
    def num_items(self) -> int:
        return int(self.metrics.get(self.split, {}).get("num_items", 0))

    @property
    def num_proxy_items(self) -> int:
        return int(self.metrics.get("proxy", {}).get("num_items", 0))

    @property
    def floor(self) -> Mapping[str, float]:
        """Metrics of the truth against itself, sampled twice: the best that can be measured."""
        return self.metrics.get("floor", {}) or {}

    @property
    def protocol(self) -> Mapping[str, Json]:
        return self.metrics.get("protocol", {}) or {}

    def versus(self, name: str) -> Mapping[str, float] | None:
        """The student's mean of the leading metric over the method's on the same items: ratio, low, high."""
        found: Mapping[str, float] | None = self.metrics.get("comparison", {}).get(name)
        return found


def _methods(pool: Mapping[str, Json]) -> dict[str, Mapping[str, Json]]:
    known = [name for name in METHODS if name in pool]
    others = sorted(name for name, value in pool.items() if isinstance(value, Mapping) and "num_items" in value)
    return {name: pool[name] for name in dict.fromkeys(known + others)}


def headline(scores: Scores) -> Html:
    """How good the student is, in a sentence or two of plain words."""
    pooled = scores.pooled
    if "student" in pooled:
        return join([_against_baseline(scores), _teacher(pooled, scores.metric), _better_still(scores)])
    if "student" in scores.proxies:
        return _by_proxy(scores)
    nothing = f"No item of the {scores.split} split was evaluated, so there is nothing to say about the student yet."
    return text(nothing)


def _against_baseline(scores: Scores) -> Html:
    pooled = scores.pooled
    metric, title = scores.metric, metrics(proxies=False)[scores.metric].title
    subject = join([f"The student’s mean {title} of ", _strong(metric, pooled["student"])])
    for name, words in (("mean_shape", "the class mean shape’s "), ("nearest", "the nearest training mesh’s ")):
        compared = scores.versus(name)
        if compared is None or name not in pooled:
            continue
        ratio = compared["ratio"]
        change = f" is {abs(1 - ratio):.0%}".replace("%", " %") + (" below " if ratio <= 1 else " above ")
        unsure = compared["low"] < 1 < compared["high"]
        doubt = " (within chance: the 95 % interval spans zero)" if unsure else ""
        shared = int(compared["num_items"])
        where = "" if shared == pooled["student"]["num_items"] else f" on the {shared} items that have one"
        return join([subject, change, words, shown(metric, pooled[name][metric]), where, doubt])
    return join([subject, " stands without a baseline beside it"])


def _teacher(pooled: Mapping[str, Mapping[str, Json]], metric: str) -> Html:
    if metric not in pooled.get("teacher", {}):
        return text("; no teacher was measured.")
    return join(["; the teacher stands at ", shown(metric, pooled["teacher"][metric]), "."])


def _better_still(scores: Scores) -> Html:
    """What a reader must know before being impressed: simple methods that beat the student."""
    better, metric = [], metrics(proxies=False)[scores.metric]
    for name in SIMPLE:
        compared = scores.versus(name)
        if compared is None or name not in scores.pooled:
            continue
        if (compared["ratio"] > 1) == (metric.better == "lower") and compared["ratio"] != 1:
            better.append(f"{method(name).title.lower()} {metric.shown(scores.pooled[name][metric.name])}")
    return text(f" Simpler methods do better: {', '.join(better)}." if better else "")


def _by_proxy(scores: Scores) -> Html:
    student = scores.proxies["student"]
    parts = ["No evaluated item has a true mesh, so these are proxies"]
    if "proxy_chamfer_to_teacher" in student:
        distance = _strong("proxy_chamfer_to_teacher", student)
        parts += [": the student’s mean Chamfer distance to its teacher is ", distance]
    if "proxy_silhouette_iou" in student:
        parts += ["; its silhouettes overlap views it never saw by ", _strong("proxy_silhouette_iou", student), " IoU"]
    return join([*parts, "."])


def _strong(metric: str, values: Mapping[str, float]) -> Html:
    return tag("strong", {}, shown(metric, values[metric]))


def section(scores: Scores, items: Mapping[str, Evaluated], latencies: Mapping[str, Mapping[str, Json]]) -> Html:
    """The chart, the table, latency, classes and proxies. items: by id. latencies: of the students, by method."""
    parts = [tag("h2", {}, "Against the truth")]
    if scores.pooled:
        parts += [_chart(scores, items), _table(scores.pooled, metrics(proxies=False), scores.floor), *_classes(scores)]
    else:
        nothing = f"No item of the {scores.split} split has a true mesh to measure against."
        parts.append(tag("p", {"class": "none"}, nothing))
    parts.append(_protocol(scores))
    if scores.proxies:
        parts += [
            tag("h3", {}, "Items without truth: proxies"),
            _table(scores.proxies, metrics(proxies=True), {}),
            tag("p", {"class": "foot"}, _proxy_note(scores)),
        ]
    return tag("section", {"id": "quality"}, *parts, *_latency(latencies))


def _chart(scores: Scores, items: Mapping[str, Evaluated]) -> Html:
    rows = []
    metric = scores.metric
    pooled = {name: figures for name, figures in scores.pooled.items() if metric in figures}
    for name, figures in sorted(pooled.items(), key=lambda pair: float(pair[1][metric])):
        interval = figures.get("interval", {}).get(metric)
        values = tuple(
            item.quality[name][metric]
            for item in items.values()
            if item.basis == "truth" and metric in item.quality.get(name, {})
        )
        rows.append(
            Dot(
                label=method(name).title,
                note=method(name).note,
                mean=float(figures[metric]),
                interval=(interval["low"], interval["high"]) if interval else None,
                values=values if len(values) <= 400 else (),
                ink=method(name).ink,
                shown=shown(metric, figures[metric]),
            )
        )
    caption = tag(
        "figcaption",
        {},
        tag("b", {}, f"Mean {metrics(proxies=False)[metric].title}, {scores.num_items} {scores.split} items"),
        " ",
        tag("span", {}, "distances in shares of the longest side; bar: 95 % interval; small dots: single items"),
    )
    return tag("figure", {"class": "main-chart"}, caption, dots(rows, scores.floor.get(metric)))


def _table(pooled: Mapping[str, Mapping[str, Json]], columns: Mapping[str, Metric], floor: Mapping[str, float]) -> Html:
    present = {name: metric for name, metric in columns.items() if any(name in values for values in pooled.values())}
    titles = [tag("th", {"class": "num"}, one.title, tag("small", {}, _hint(one))) for one in present.values()]
    rows = [
        tag(
            "tr",
            {"class": f"is-{name}"},
            tag("th", {"scope": "row"}, method(name).title),
            *(_cell(values, metric) for metric in present),
            tag("td", {"class": "num quiet"}, str(values.get("num_items", ""))),
        )
        for name, values in pooled.items()
    ]
    if floor:
        floors = [_cell(floor, metric) for metric in present]
        name = tag("th", {"scope": "row"}, "Truth, sampled twice")
        rows.append(tag("tr", {"class": "floor-row"}, name, *floors, tag("td", {})))
    return table([*heads("Method"), *titles, *heads(num=["Items"])], rows)


def _hint(metric: Metric) -> str:
    return f"{'proxy, ' if metric.is_proxy else ''}{metric.better} is better"


def _cell(values: Mapping[str, Json], metric: str) -> Html:
    if metric not in values:
        return tag("td", {"class": "num quiet"}, "–")
    interval = values.get("interval", {}).get(metric)
    spread = " – ".join(shown(metric, interval[end]) for end in ("low", "high")) if interval else ""
    return tag("td", {"class": "num"}, shown(metric, values[metric]), *([tag("small", {}, spread)] if spread else []))


def _classes(scores: Scores) -> list[Html]:
    """Chamfer by class, where there is more than one."""
    if len(scores.by_class) < 2:
        return []
    names = list(scores.pooled)
    rows = []
    for label_class, pooled in scores.by_class.items():
        cells = [_cell(pooled.get(name, {}), scores.metric) for name in names]
        count = max(int(values.get("num_items", 0)) for values in pooled.values()) if pooled else 0
        count_cell = tag("td", {"class": "num quiet"}, str(count))
        rows.append(tag("tr", {}, tag("th", {"scope": "row"}, label_class), *cells, count_cell))
    titles = heads("Class", num=[*(method(name).title for name in names), "Items"])
    return [tag("h3", {}, f"Mean {metrics(proxies=False)[scores.metric].title} by class"), table(titles, rows)]


def _protocol(scores: Scores) -> Html:
    protocol = scores.protocol
    if not protocol:
        return tag("p", {"class": "foot"}, "evaluate published no protocol for these figures.")
    floor = scores.floor.get("chamfer")
    sentences = [
        f"Chamfer: {protocol.get('chamfer')}, {protocol.get('distance')}, over {protocol.get('num_points'):,} points a "
        f"surface ({protocol.get('sampling')}); frame: {protocol.get('frame')}.",
        f"F-score at {protocol.get('fscore_threshold')}.",
        f"IoU: {protocol.get('iou')}, {protocol.get('iou_resolution')} cells along the longest side.",
        f"Normals: {protocol.get('normal_consistency')}.",
        "Intervals: 95 % bootstrap over items.",
    ]
    if floor is not None:
        apart = shown("chamfer", floor)
        sentences.append(f"Sampling floor: two samplings of the same true surface are {apart} apart, on average.")
    return tag("p", {"class": "foot"}, " ".join(sentences))


def _proxy_note(scores: Scores) -> str:
    items = counted(scores.num_proxy_items, f"{scores.split} item")
    return (
        f"{items} without a true mesh. Proxies say how closely a mesh follows the teacher, "
        "or silhouettes that no method was given; they do not say that it is right."
    )


def _latency(latencies: Mapping[str, Mapping[str, Json]]) -> list[Html]:
    heading = tag("h3", {}, "Latency")
    if not latencies:
        nothing = "Latency was not measured on this machine: it is taken where evaluate runs and does not travel along."
        return [heading, tag("p", {"class": "none"}, nothing)]
    rows = [
        tag(
            "tr",
            {"class": f"is-{name}"},
            tag("th", {"scope": "row"}, method(name).title),
            *(tag("td", {"class": "num"}, _milliseconds(figures[quantile])) for quantile in ("p50_s", "p95_s")),
            tag("td", {}, f"{figures['device']}, {counted(figures['num_threads'], 'thread')}"),
            tag("td", {}, ", ".join(figures["from"])),
            tag("td", {"class": "num quiet"}, str(figures["num_runs"])),
        )
        for name, figures in latencies.items()
    ]
    titles = [*heads("Student", num=["Median (p50)", "p95"]), *heads("On", "From", num=["Runs"])]
    note = (
        "One item at a time, from what the student is given to its cast, after warm-up. Matte and encoder come on top."
    )
    return [heading, table(titles, rows), tag("p", {"class": "foot"}, note)]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"

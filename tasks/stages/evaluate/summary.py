"""Pooled figures of the evaluated items, for metrics.json. Deterministic; no times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from models import plugins
from models.casts import PARTS, known_metrics
from models.metric import Metric
from models.metrics import Protocol
from models.metrics.intervals import Interval, mean_interval, ratio_interval
from tasks.collections.records import Record
from tasks.engine.stage import Json
from tasks.stages.evaluate.methods import STUDENT
from tasks.stages.evaluate.results import Evaluated, by_item

T = TypeVar("T")

MOST_SCORES = 4
"""`dvc metrics show` prints each figure as a column."""
MOST_ROWS = 200
"""Items are listed one by one below this number."""


def summarise(records: Iterable[Record], split: str, protocol: Protocol, seed: int) -> dict[str, Json]:
    """What metrics.json says of evaluated items.

    SPLIT: {METHOD: {METRIC: mean..., num_items, interval: {METRIC: {low, high}}}, num_items, by_class: {CLASS: the
    same}}, over the items with truth. `num_items` of a method: those that it applies to.
    metric: the leading one of the kind that the student casts (`models.casts`; of meshes, Chamfer).
    comparison: {METHOD: {ratio, low, high, num_items}}: the student's mean of that metric over the method's, on the
    items that have both.
    against_mean_shape: the same of each method over the class mean shape. proxy: as SPLIT, of the items without truth.
    floor, protocol: of the metrics. per_item: the leading metric of each method, an item a row.
    """
    by_basis: dict[str, list[Evaluated]] = defaultdict(list)
    for item in by_item(records).values():
        by_basis[item.basis].append(item)
    true, proxies = by_basis["truth"], by_basis["proxy"]
    by_class: dict[str, list[Evaluated]] = defaultdict(list)
    for item in true:
        by_class[item.label_class].append(item)
    lead = leading_metric(true).name
    classes = {name: _pool(members, seed) for name, members in sorted(by_class.items())}
    summary: dict[str, Json] = {
        split: {**_pool(true, seed), "by_class": classes},
        "metric": lead,
        "comparison": {
            method: _ratio(true, STUDENT, method, lead, seed) for method in _methods(true, lead, beside=STUDENT)
        },
        "against_mean_shape": {
            method: _ratio(true, method, "mean_shape", lead, seed)
            for method in _methods(true, lead, beside="mean_shape")
        },
        "floor": _means([item.floor for item in true]),
        "protocol": protocol.to_json(),
    }
    if proxies:
        summary["proxy"] = _pool(proxies, seed)
    if len(true) < MOST_ROWS:
        summary["per_item"] = [_row(item, lead) for item in true]
    return summary


def scores(summary: Mapping[str, Json], split: str) -> dict[str, Json]:
    """The student's leading figures, of the items with truth; where none has any, the proxies of the others."""
    pool = summary[split] if summary[split]["num_items"] else summary.get("proxy", summary[split])
    figures = pool.get(STUDENT, {})
    shown = [metric.name for metric in known_metrics() if metric.name in figures and metric.name not in PARTS]
    return {"items": pool["num_items"], **{name: figures[name] for name in shown[:MOST_SCORES]}}


def leading_metric(items: Iterable[Evaluated]) -> Metric:
    """The first metric of the kind that the student casts; of meshes where nothing was evaluated."""
    kinds = (item.records[STUDENT].facts["kind"] for item in items if STUDENT in item.quality)
    metric: Metric = plugins.load("casts", next(kinds, "mesh")).METRICS[0]
    return metric


def _pool(items: Sequence[Evaluated], seed: int) -> dict[str, Json]:
    figures: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for item in items:
        for method, values in item.quality.items():
            figures[method].append(values)
    methods = {
        method: {**_means(values), "num_items": len(values), "interval": _intervals(values, seed)}
        for method, values in sorted(figures.items())
    }
    return {**methods, "num_items": len(items)}


def _methods(items: Sequence[Evaluated], metric: str, *, beside: str) -> list[str]:
    """The other methods that have the metric on some item together with this one."""
    found: set[str] = set()
    for item in items:
        methods = {method for method, values in item.quality.items() if metric in values}
        found |= methods if beside in methods else set()
    return sorted(found - {beside})


def _ratio(items: Sequence[Evaluated], method: str, other: str, metric: str, seed: int) -> dict[str, Json]:
    """The method's mean over the other's, item by item: only items that have both count."""
    figures = [[item.quality.get(name, {}).get(metric) for name in (method, other)] for item in items]
    own, others = zip(*[pair for pair in figures if None not in pair], strict=True)
    interval = _rounded(ratio_interval(own, others, seed))
    return {"ratio": round(fmean(own) / fmean(others), 6), **interval, "num_items": len(own)}


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {metric: round(value, 6) for metric, value in _each_metric(figures, fmean).items()}


def _intervals(figures: Sequence[Mapping[str, float]], seed: int) -> dict[str, dict[str, float]]:
    intervals = _each_metric(figures, lambda values: mean_interval(values, seed))
    return {metric: _rounded(interval) for metric, interval in intervals.items()}


def _each_metric(figures: Sequence[Mapping[str, float]], of: Callable[[list[float]], T]) -> dict[str, T]:
    metrics = sorted({metric for values in figures for metric in values})
    return {metric: of([values[metric] for values in figures if metric in values]) for metric in metrics}


def _rounded(interval: Interval) -> dict[str, float]:
    low, high = interval
    return {"low": round(low, 6), "high": round(high, 6)}


def _row(item: Evaluated, metric: str) -> dict[str, Json]:
    figures = {method: values[metric] for method, values in sorted(item.quality.items()) if metric in values}
    return {"id": item.id, "class": item.label_class, **figures}

"""Pooled figures of the evaluated items, for metrics.json. Deterministic; no times."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from models.metrics import Protocol
from models.metrics.intervals import Interval, mean_interval, ratio_interval
from tasks.collections.records import Record
from tasks.engine.stage import Json

T = TypeVar("T")

MOST_ROWS = 200
"""Items are listed one by one below this number."""


def summarise(records: Iterable[Record], split: str, protocol: Protocol, seed: int) -> dict[str, Json]:
    """What metrics.json says of evaluated items.

    SPLIT: {METHOD: {METRIC: mean..., num_items, interval: {METRIC: {low, high}}}, num_items, by_class: {CLASS: the
    same}}, over the items with truth. `num_items` of a method: those that it applies to.
    comparison: {METHOD: {chamfer_ratio, low, high, num_items}}: the student's mean Chamfer over the method's, on the
    items that have both. against_mean_shape: the same of each method over the class mean shape. proxy: as SPLIT, of
    the items without truth. floor, protocol: of the metrics. per_item: the Chamfer of each method, an item a row.
    """
    by_basis: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.id):
        by_basis[record.facts["basis"]].append(record)
    true, proxies = by_basis["truth"], by_basis["proxy"]
    by_class: dict[str, list[Record]] = defaultdict(list)
    for record in true:
        by_class[record.facts["class"]].append(record)
    classes = {name: _pool(members, seed) for name, members in sorted(by_class.items())}
    summary: dict[str, Json] = {
        split: {**_pool(true, seed), "by_class": classes},
        "comparison": {method: _ratio(true, "student", method, seed) for method in _methods(true, beside="student")},
        "against_mean_shape": {
            method: _ratio(true, method, "mean_shape", seed) for method in _methods(true, beside="mean_shape")
        },
        "floor": _means([record.facts["floor"] for record in true]),
        "protocol": protocol.to_json(),
    }
    if proxies:
        summary["proxy"] = _pool(proxies, seed)
    if len(true) < MOST_ROWS:
        summary["per_item"] = [_row(record) for record in true]
    return summary


def _pool(records: Sequence[Record], seed: int) -> dict[str, Json]:
    figures: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for record in records:
        for method, values in record.quality.items():
            figures[method].append(values)
    methods = {
        method: {**_means(values), "num_items": len(values), "interval": _intervals(values, seed)}
        for method, values in sorted(figures.items())
    }
    return {**methods, "num_items": len(records)}


def _methods(records: Sequence[Record], *, beside: str) -> list[str]:
    """The other methods that some item has together with this one."""
    found = {method for record in records if beside in record.quality for method in record.quality}
    return sorted(found - {beside})


def _ratio(records: Sequence[Record], method: str, other: str, seed: int) -> dict[str, Json]:
    """The method's mean Chamfer over the other's, item by item: only items that have both count."""
    both = [record.quality for record in records if {method, other} <= record.quality.keys()]
    own, others = ([quality[name]["chamfer"] for quality in both] for name in (method, other))
    interval = _rounded(ratio_interval(own, others, seed))
    return {"chamfer_ratio": round(fmean(own) / fmean(others), 6), **interval, "num_items": len(both)}


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


def _row(record: Record) -> dict[str, Json]:
    chamfers = {method: values["chamfer"] for method, values in sorted(record.quality.items())}
    return {"id": record.id, "class": record.facts["class"], **chamfers}

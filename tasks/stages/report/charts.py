"""Charts that need no library: SVG drawn in percentages, so that it takes any width, and text that stays text.

`dots` compares means with their intervals; `lines` shows curves. Colours are CSS classes: `ink-NAME` sets `color`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tasks.stages.report.markup import Html, tag

ROW_PX = 30
MAX_POINTS = 240
"""Of a curve; longer ones are averaged in bins, for nobody sees more on a page."""


@dataclass(frozen=True)
class Dot:
    """A mean, its interval where one is known, and the single values behind it. ink: name of its colour."""

    label: str
    note: str
    mean: float
    interval: tuple[float, float] | None
    values: tuple[float, ...]
    ink: str
    shown: str
    """The mean as people read it."""


@dataclass(frozen=True)
class Curve:
    """Points (x, y) by rising x."""

    label: str
    points: tuple[tuple[float, float], ...]
    ink: str


def dots(rows: Sequence[Dot], floor: float | None) -> Html:
    """One row a dot on a common axis that starts at 0; the floor is a dashed line through all of them."""
    top = max([row.mean for row in rows] + [high for row in rows if row.interval for high in row.interval[1:]])
    values = sorted(value for row in rows for value in row.values)
    if values:
        top = max(top, min(values[-1], 1.6 * top))
    ticks = linear_ticks(0, top)
    end = max(ticks[-1], top * 1.02)
    drawn = [_dot_row(row, end, floor) for row in rows]
    return tag("div", {"class": "dots"}, *drawn, _dot_axis(ticks, end, floor))


def _dot_row(row: Dot, end: float, floor: float | None) -> Html:
    middle = ROW_PX / 2
    marks: list[Html] = [tag("line", {"class": "rail", "x1": "0", "x2": "100%", "y1": middle, "y2": middle})]
    if floor is not None:
        marks.append(_upright("floor", _percent(floor, end), ROW_PX))
    marks += [
        tag("circle", {"class": "single", "cx": _percent(value, end), "cy": middle, "r": 3})
        for value in row.values
        if value <= end
    ]
    if row.interval:
        low, high = (_percent(value, end) for value in row.interval)
        marks.append(tag("line", {"class": "whisker", "x1": low, "x2": high, "y1": middle, "y2": middle}))
    marks.append(tag("circle", {"class": "mean", "cx": _percent(row.mean, end), "cy": middle, "r": 6}))
    plot = tag("svg", {"class": f"ink-{row.ink}", "height": ROW_PX, "aria-hidden": "true"}, *marks)
    label = tag("b", {"class": f"name-{row.ink}"}, row.label)
    name = tag("div", {"class": "dot-name"}, label, " ", tag("span", {}, row.note))
    return tag("div", {"class": "dot-row"}, name, plot, tag("div", {"class": "dot-value"}, row.shown))


def _dot_axis(ticks: Sequence[float], end: float, floor: float | None) -> Html:
    marks: list[Html] = []
    for tick in ticks:
        place = _percent(tick, end)
        anchor = "start" if tick == 0 else "end" if tick >= 0.97 * end else "middle"
        marks += [_upright("tick", place, 5), tag("text", {"x": place, "y": 19, "text-anchor": anchor}, short(tick))]
    if floor is not None:
        marks.append(tag("text", {"class": "floor-name", "x": _percent(floor, end), "y": 36}, "sampling floor"))
    plot = tag("svg", {"class": "axis", "height": 42, "aria-hidden": "true"}, *marks)
    return tag("div", {"class": "dot-row"}, tag("div", {}), plot, tag("div", {}))


def _upright(kind: str, x: str, height: float) -> Html:
    return tag("line", {"class": kind, "x1": x, "x2": x, "y1": 0, "y2": height})


def lines(title: str, curves: Sequence[Curve], x_name: str, note: str, *, log: bool = False) -> Html:
    """Curves over a common x. log: decades upwards, where every curve has something above zero to show.

    Values that a logarithm cannot take are left out.
    """
    kept = [
        Curve(curve.label, tuple(point for point in curve.points if not log or point[1] > 0), curve.ink)
        for curve in curves
    ]
    kept = [curve for curve in kept if curve.points]
    if not kept:
        nothing = tag("p", {"class": "none"}, "Nothing was recorded.")
        return tag("figure", {"class": "chart"}, _caption(title, note), nothing)
    drawn = [binned(curve.points) for curve in kept]
    xs, ys = ([point[axis] for points in drawn for point in points] for axis in (0, 1))
    scale = Scale.around(ys, log)
    left, right = min(xs), max(xs)
    width = (right - left) or 1.0

    def path(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{100 * (x - left) / width:.2f},{100 - 100 * scale.place(y):.2f}" for x, y in points)

    strokes = [
        tag("polyline", {"class": f"ink-{curve.ink}", "points": path(points if len(points) > 1 else points * 2)})
        for curve, points in zip(kept, drawn, strict=True)
    ]
    grid = [
        tag("line", {"class": "grid", "x1": 0, "x2": 100, "y1": y, "y2": y})
        for y in (round(100 - 100 * scale.place(tick), 2) for tick in scale.ticks)
    ]
    frame = {"viewBox": "0 0 100 100", "preserveAspectRatio": "none", "role": "img", "aria-label": title}
    y_names = [tag("span", {"style": f"bottom:{100 * scale.place(tick):.2f}%"}, short(tick)) for tick in scale.ticks]
    return tag(
        "figure",
        {"class": "chart"},
        _caption(title, note),
        tag("div", {"class": "plot"}, tag("div", {"class": "y"}, *y_names), tag("svg", frame, *grid, *strokes)),
        tag("div", {"class": "x"}, *(tag("span", {}, name) for name in (short(left), x_name, short(right)))),
        tag("ul", {"class": "legend"}, *(_legend(curve) for curve in kept)),
    )


def _caption(title: str, note: str) -> Html:
    return tag("figcaption", {}, tag("b", {}, title), " ", tag("span", {}, note))


def _legend(curve: Curve) -> Html:
    first, last = curve.points[0][1], curve.points[-1][1]
    moved = short(last) if first == last else f"{short(first)} → {short(last)}"
    return tag("li", {"class": f"ink-{curve.ink}"}, tag("span", {}, curve.label), " ", tag("em", {}, moved))


@dataclass(frozen=True)
class Scale:
    """Where a value stands between the lower and the upper edge, 0 to 1, and which values are worth a line."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool

    @staticmethod
    def around(values: Sequence[float], log: bool) -> Scale:
        low, high = min(values), max(values)
        if log:
            if high < low * 1.05:
                low, high = low / 1.5, high * 1.5
            low, high = low / (high / low) ** 0.05, high * (high / low) ** 0.05
            return Scale(low, high, tuple(log_ticks(low, high)), log)
        ticks = linear_ticks(min(low, 0.0), high)
        return Scale(min(low, 0.0), max(high, ticks[-1]) or 1.0, tuple(ticks), log)

    def place(self, value: float) -> float:
        if self.log:
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2, 5 times a power of ten) from `low`, the last at or just under `high`."""
    span = (high - low) or 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * number, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in between; multiples of them, then even steps, where there would be fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors: tuple[tuple[int, ...], ...] = ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 8))
    for chosen in factors:
        ticks = [factor * 10.0**power for power in powers for factor in chosen]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 6)]
    return [tick for tick in linear_ticks(low, high) if tick > 0]


def binned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS points: means of equal bins, the first and the last point kept."""
    if len(points) <= MAX_POINTS:
        return list(points)
    edges = [round(number * len(points) / MAX_POINTS) for number in range(MAX_POINTS + 1)]
    bins = [points[start:stop] for start, stop in itertools.pairwise(edges)]
    means = [(_mean(x for x, _ in part), _mean(y for _, y in part)) for part in bins]
    return [points[0], *means[1:-1], points[-1]]


def share_bar(parts: Iterable[tuple[int, str]]) -> Html:
    """Counts as one bar of coloured parts, (count, ink) from left to right."""
    counted = [(count, ink) for count, ink in parts if count]
    total = sum(count for count, _ in counted) or 1
    shares = [tag("i", {"class": f"ink-{ink}", "style": f"width:{100 * count / total:.3f}%"}) for count, ink in counted]
    return tag("div", {"class": "share"}, *shares)


def short(value: float) -> str:
    """Three significant digits, plain: 0.0213, 1.5, 120, 2e-05."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        plain = f"{value:.{digits}f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _percent(value: float, end: float) -> str:
    return f"{100 * min(max(value / end, 0.0), 1.0):.2f}%"


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)

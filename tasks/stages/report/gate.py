"""What the gate made of the teacher's outputs: the share it accepts, why it rejects others, and a sheet to look at."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from models.errors import BadInput
from models.views import decode_rgba
from tasks.collections.records import Record
from tasks.engine.stage import Upstream
from tasks.stages.gate import FIGURES, PICTURE
from tasks.stages.gate.verdict import GateParams, Tally, is_unmeasured, label_of, tally, verdict, worst_first
from tasks.stages.report import strips
from tasks.stages.report.charts import short
from tasks.stages.report.markup import Html, heads, table, tag

TITLES = {
    "silhouette_iou": "Silhouette IoU",
    "side_ratio": "Side ratio",
    "flipped_iou_gain": "IoU gained by a flip",
    "flipped_psnr_gain_db": "PSNR gained by a flip, dB",
    "best_view_iou": "Best-view IoU",
    "psnr_db": "PSNR, dB",
    "brightness_ratio": "Brightness",
    "area": "Area",
    "area_to_hull": "Area to hull",
    "outward_share": "Outward share",
    "components": "Pieces",
    "chamfer": "Chamfer",
    "normal_consistency": "Normal consistency",
}
ON_CARDS = ("silhouette_iou", "best_view_iou", "psnr_db", "brightness_ratio", "chamfer")


def section(upstreams: Mapping[str, Upstream], limits: GateParams, num_items: int) -> Html:
    """The figures, then at most num_items pictures, rejected items first and the worst of them before the others."""
    gate, ingested = upstreams["gate"], upstreams["ingest"].records
    heading = tag("h2", {}, "The gate")
    if not gate.records:
        nothing = tag("p", {"class": "none"}, "No output of the teacher has been measured.")
        return tag("section", {"id": "gate"}, heading, nothing)
    judged = tally(gate.records.values(), limits)
    shown = worst_first(gate.records, limits)[:num_items]
    cards = [_card(gate, item_id, limits, label_of(ingested, item_id)) for item_id in shown]
    note = (
        "What the teacher made is drawn from the cameras of the views it was made from. Above, the views; below, the "
        "cast: from the same cameras, or, for photos, from where its silhouette fits best. Only accepted items are "
        "trained and validated on; the test items are all evaluated."
    )
    return tag(
        "section",
        {"id": "gate"},
        heading,
        tag("p", {"class": "lead"}, _headline(judged, limits)),
        table(heads("Limit", "Set to", num=["Rejected"]), _limits(judged, limits)),
        table(heads("Figure", num=["Median", "Items"]), _medians(gate.records)),
        tag("h3", {}, f"{len(shown)} of {judged.total} items, the worst first"),
        tag("p", {"class": "lead"}, note),
        tag("div", {"class": "cards"}, *cards),
    )


def _headline(judged: Tally, limits: GateParams) -> str:
    share = judged.share or 0.0
    unmeasured = f" {len(judged.unmeasured)} of these could not be measured." if judged.unmeasured else ""
    return (
        f"{judged.accepted} of {judged.total} of the teacher’s outputs are accepted ({share:.0%}); training asks for "
        f"{limits.min_accepted_share:.0%}.{unmeasured}"
    )


def _limits(judged: Tally, limits: GateParams) -> list[Html]:
    """A row for each limit that is applied."""
    rejected = judged.by_limit()
    rows = []
    for name, value in limits.limits().items():
        count = rejected[name]
        words = " to ".join(f"{end:g}" for end in value) if isinstance(value, tuple) else f"{value:g}"
        loud = "num ink-bad" if count else "num quiet"
        cells = [tag("td", {}, "yes" if value is True else words), tag("td", {"class": loud}, str(count))]
        rows.append(tag("tr", {}, tag("th", {"scope": "row"}, name), *cells))
    return rows


def _medians(records: Mapping[str, Record]) -> list[Html]:
    """A row for each figure that some item has: its median, and of how many items it is known."""
    rows = []
    found = [record.quality for record in records.values()]
    for name in FIGURES:
        values = [value for quality in found if (value := quality.get(name)) is not None]
        if values:
            title = tag("th", {"scope": "row"}, TITLES[name])
            middle = tag("td", {"class": "num"}, short(median(values)))
            rows.append(tag("tr", {}, title, middle, tag("td", {"class": "num quiet"}, str(len(values)))))
    return rows


def _card(gate: Upstream, item_id: str, limits: GateParams, label: str) -> Html:
    record = gate.records[item_id]
    reasons = [reason.text for reason in verdict(record.quality, limits)]
    why = tag("span", {"class": "why why-worst" if reasons else "why"}, "rejected" if reasons else "accepted")
    figures = [f"{TITLES[name]} {short(value)}" for name in ON_CARDS if (value := record.quality.get(name)) is not None]
    if is_unmeasured(record):
        figures = [f"not measured: its {', '.join(record.facts['kinds'])} have no surface and cannot be drawn"]
    elif not record.facts["cameras"]:
        figures.append("its cameras are unknown: the cast is shown as it fits best")
    return tag(
        "article",
        {"class": "card"},
        tag("header", {}, tag("b", {}, label), why),
        _picture(gate, item_id, label),
        tag("p", {"class": "foot"}, ", ".join(reasons or figures)),
    )


def _picture(gate: Upstream, item_id: str, label: str) -> Html:
    try:
        uri = strips.data_uri(decode_rgba(gate.read(item_id, PICTURE)))
    except BadInput as error:
        return tag("div", {"class": "stage absent"}, tag("span", {}, str(error)))
    alternative = f"views of {label} above, the teacher’s cast below"
    return tag("div", {"class": "stage"}, tag("img", {"src": uri, "alt": alternative}))

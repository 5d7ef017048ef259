"""What is good enough to train on: limits over the gate's figures, and the one function that applies them.

Records hold figures alone, so that another limit renders nothing anew (docs/decisions/0007-gate.md). Whoever asks
whether an item is accepted asks `verdict`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.params import Block
from tasks.collections.records import Record
from tasks.engine.stage import Json

MEASURED = ("views", "num_points", "platform")
"""The params that change a figure; all others are limits, and stay out of the key."""
IOUS = ("silhouette_iou", "best_view_iou")
WORDS = {
    "silhouette_iou": "silhouette IoU",
    "side_ratio": "side ratio",
    "flipped_iou_gain": "IoU gained by a flip",
    "flipped_psnr_gain_db": "PSNR gained by a flip",
    "best_view_iou": "best-view IoU",
    "psnr_db": "PSNR",
    "brightness_ratio": "brightness",
    "area": "area",
    "area_to_hull": "area to hull",
    "outward_share": "outward share",
    "components": "components",
    "chamfer": "Chamfer",
    "normal_consistency": "normal consistency",
}
"""The figures, as reasons call them."""
UNITS = {"psnr_db": " dB", "flipped_psnr_gain_db": " dB"}
MOST_REASONS = 3
"""Named where training is refused."""


class GateParams(Block):
    """The `gate` block. A limit of null is not applied, nor is one whose figure an item lacks: what cannot be measured
    at all is accepted, and counted as unmeasured.

    The defaults let pass what a usable teacher makes and stop what is plainly wrong: another object, one stretched,
    mirrored, turned away, shattered, crumpled, inside out, nearly black. "Measured" below is the range over the visual
    hulls of 51 real meshes at 128 px (docs/decisions/0007-gate.md).
    """

    views: tuple[str, ...] = Field(("front", "left", "back", "right"), min_length=1, max_length=16)
    """The views that are compared and shown."""
    num_points: int = Field(10_000, ge=100)
    """Area-uniform samples of each surface, for the Chamfer distance to the truth."""
    platform: Literal["auto", "egl", "osmesa"] = "auto"
    """What GL runs on, as in the `views` block."""

    min_silhouette_iou: float | None = Field(0.75, ge=0, le=1)
    """Mean over the views of known cameras. Measured: .79 (a knife) to .99; squashed to .6: .34 to .82."""
    max_side_ratio: float | None = Field(1.3, ge=1)
    """Between the sides of the boxes of two silhouettes of one view, the longer over the shorter. Measured: 1 to 1.2;
    squashed to .6: 1.6 where the squashed side is seen."""
    max_flipped_iou_gain: float | None = Field(0.03, ge=0, le=1)
    """How much higher the silhouette IoU may be when the mesh is mirrored, turned by half or upside down. Measured: at
    most .01; mirrored: median .2."""
    max_flipped_psnr_gain_db: float | None = Field(2.0, ge=0)
    """The same of the PSNR, which tells sides apart that have one silhouette. Measured: below 0; mirrored: median
    4."""
    min_best_view_iou: float | None = Field(0.4, ge=0, le=1)
    """Mean silhouette IoU over views of unknown cameras (photos), from where the mesh fits them best, brought to one
    size."""
    min_psnr_db: float | None = Field(10.0, ge=0)
    """Over the object's pixels of all views, on grey."""
    brightness_range: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] | None = (0.5, 2.0)
    """Mean luma of the renders over that of the inputs."""
    min_area: float | None = Field(0.02, ge=0)
    """Surface, in squares of the longest side; a rod of 1 x .01 x .01 has .04."""
    max_area_to_hull: float | None = Field(3.0, gt=0)
    """Surface over that of its convex hull. Measured: .3 to 1.6, true meshes with inner walls to 1.8; crumpled: over
    4."""
    min_outward_share: float | None = Field(0.6, ge=0, le=1)
    """Share of the surface with the solid behind it and none before it. Measured: over .99, true meshes over .87;
    shattered into 28 triangles: .23 to .54; inside out: 0. An open sheet, such as a garment, has next to none."""
    max_components: int | None = Field(100, ge=1)
    """Connected pieces."""
    require_watertight: bool = False
    """Every edge joins exactly two faces."""
    max_chamfer: float | None = Field(0.1, gt=0)
    """To the truth, where there is one; in units of the longest side. Measured: at most .03."""
    min_normal_consistency: float | None = Field(0.65, ge=0, le=1)
    """With the truth, where there is one: mean |cosine| of nearest samples; .5 is chance. Measured: over .78;
    shattered: median .56."""
    min_accepted_share: float = Field(0.5, ge=0, le=1)
    """Training refuses a collection of which the gate accepts a smaller share."""

    @model_validator(mode="after")
    def _range_ascends(self) -> Self:
        if self.brightness_range and self.brightness_range[0] >= self.brightness_range[1]:
            raise ValueError(f"brightness_range must ascend: {list(self.brightness_range)}")
        return self

    def limits(self) -> dict[str, Json]:
        """The limits on an item that are applied, by name."""
        names = [name for name in type(self).model_fields if name not in (*MEASURED, "min_accepted_share")]
        return {name: value for name in names if (value := getattr(self, name)) is not None and value is not False}


@dataclass(frozen=True)
class Reason:
    """Why an item is rejected. limit: the parameter that it fails. text: `silhouette IoU 0.41 < 0.6`."""

    limit: str
    text: str

    def __str__(self) -> str:
        return self.text


def verdict(quality: Mapping[str, Json], params: GateParams) -> list[Reason]:
    """The limits that an item's figures fail, in the order of the params; none for an accepted item."""
    return [Reason(limit, text) for limit, ask in params.limits().items() for text in _failed(limit, ask, quality)]


def _failed(limit: str, ask: Json, quality: Mapping[str, Json]) -> Iterator[str]:
    """In words, how the figures fail one limit: min_X and max_X bound the figure X."""
    side, _, figure = limit.partition("_")
    if limit == "require_watertight":
        if quality.get("watertight") is False:
            yield "not watertight"
    elif limit == "brightness_range":
        yield from _outside("brightness_ratio", quality, low=ask[0], high=ask[1])
    elif side == "min":
        yield from _outside(figure, quality, low=ask)
    else:
        yield from _outside(figure, quality, high=ask)


def _outside(
    figure: str, quality: Mapping[str, Json], low: float | None = None, high: float | None = None
) -> Iterator[str]:
    value, unit = quality.get(figure), UNITS.get(figure, "")
    if value is None:
        return
    if low is not None and value < low:
        yield f"{WORDS[figure]} {_written(value, low)} < {low:g}{unit}"
    if high is not None and value > high:
        yield f"{WORDS[figure]} {_written(value, high)} > {high:g}{unit}"


@dataclass(frozen=True)
class Tally:
    """The verdicts over a collection. rejected: the reasons by item id. unmeasured: ids of accepted items that have no
    figure. Both in the order of ids."""

    total: int
    rejected: Mapping[str, list[Reason]]
    unmeasured: tuple[str, ...] = ()

    @property
    def accepted(self) -> int:
        return self.total - len(self.rejected)

    @property
    def share(self) -> float | None:
        """Accepted items over all that the gate was shown; None without any."""
        return self.accepted / self.total if self.total else None

    def by_limit(self) -> Counter[str]:
        """Rejected items by the limit that they fail; an item may fail several."""
        return Counter(reason.limit for reasons in self.rejected.values() for reason in reasons)


def tally(records: Iterable[Record], params: GateParams) -> Tally:
    """The verdict on every record of the gate."""
    total, rejected, unmeasured = 0, {}, []
    for record in records:
        total += 1
        if is_unmeasured(record):
            unmeasured.append(record.id)
        elif reasons := verdict(record.quality, params):
            rejected[record.id] = reasons
    return Tally(total, dict(sorted(rejected.items())), tuple(sorted(unmeasured)))


def is_unmeasured(record: Record) -> bool:
    """Whether the gate could measure nothing of what the teacher stored."""
    return record.facts.get("judged", "mesh") is None


def worst_first(records: Mapping[str, Record], params: GateParams) -> list[str]:
    """Ids: rejected items by how many limits they fail, then the others; of equals the least IoU first."""

    def order(item_id: str) -> tuple[int, float, str]:
        quality = records[item_id].quality
        seen = [float(value) for name in IOUS if (value := quality.get(name)) is not None]
        return -len(verdict(quality, params)), min(seen, default=1.0), item_id

    return sorted(records, key=order)


def refusal(found: Tally, params: GateParams, ingested: Mapping[str, Record]) -> str | None:
    """Why nothing is trained on this collection and what to look at, None where the share is high enough."""
    if found.share is None or found.share >= params.min_accepted_share:
        return None
    ordered = sorted(found.by_limit().items(), key=lambda entry: (-entry[1], entry[0]))
    lines, example = [], ""
    for limit, count in ordered[:MOST_REASONS]:
        item_id, text = next(
            (item_id, reason.text)
            for item_id, reasons in found.rejected.items()
            for reason in reasons
            if reason.limit == limit
        )
        label = label_of(ingested, item_id)
        example = example or label
        lines.append(f"{count} by gate.{limit} ({label}: {text})")
    return (
        f"the gate accepts {found.accepted} of {found.total} items ({found.share:.0%}), under "
        f"gate.min_accepted_share = {params.min_accepted_share:.0%}. Rejected: {', '.join(lines)}. Look at "
        f"artifacts/gate/metrics.json and at the picture gate/gate.png that `lostwax show {example} -o DIR` writes; "
        "then mend the teacher's settings, or the limits in the gate block"
    )


def label_of(ingested: Mapping[str, Record], item_id: str) -> str:
    """The item's readable label, by ingest's records; its id where ingest lacks it."""
    record = ingested.get(item_id)
    return str(record.facts.get("label", item_id)) if record else item_id


def _written(value: float, limit: float) -> str:
    """Three digits, or as many as it takes to tell the value from the limit."""
    return next(text for digits in (3, 6, 17) if (text := f"{value:.{digits}g}") != f"{limit:.{digits}g}")

"""What is good enough to train on: limits over the gate's figures, and the one function that applies them.

Records hold figures alone, so that another limit renders nothing anew (docs/decisions/0007-gate.md). Whoever asks
whether an item is accepted asks `verdict`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.params import Block
from tasks.collections.records import Record
from tasks.engine.stage import Json

MEASURED = ("views", "num_points", "platform")
"""The params that change a figure; all others are limits, and stay out of the key."""
IOUS = ("silhouette_iou", "best_view_iou")
MOST_REASONS = 3
"""Named where training is refused."""


class GateParams(Block):
    """The `gate` block. A limit of null is not applied, nor is one whose figure an item lacks.

    The defaults let pass what a usable teacher makes and stop what is plainly wrong: another object, one turned away,
    shrunk, torn to specks, nearly black. A teacher that is given cameras stands far above them.
    """

    views: tuple[str, ...] = Field(("front", "left", "back", "right"), min_length=1, max_length=16)
    """The views that are compared and shown."""
    num_points: int = Field(10_000, ge=100)
    """Area-uniform samples of each surface, for the Chamfer distance to the truth."""
    platform: Literal["auto", "egl", "osmesa"] = "auto"
    """What GL runs on, as in the `views` block."""

    min_silhouette_iou: float | None = Field(0.6, ge=0, le=1)
    """Mean over the views."""
    min_best_view_iou: float | None = Field(0.4, ge=0, le=1)
    """The same for views of unknown cameras (photos), from where the mesh fits them best, brought to one size."""
    min_psnr_db: float | None = Field(10.0, ge=0)
    """Over the object's pixels of all views, on grey."""
    brightness_range: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]] | None = (0.5, 2.0)
    """Mean luma of the renders over that of the inputs."""
    min_area: float | None = Field(0.02, ge=0)
    """Surface, in squares of the longest side; a rod of 1 x .01 x .01 has .04."""
    max_components: int | None = Field(100, ge=1)
    """Connected pieces."""
    require_watertight: bool = False
    """Every edge joins exactly two faces."""
    max_chamfer: float | None = Field(0.1, gt=0)
    """To the truth, where there is one; in units of the longest side."""
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
    low, high = params.brightness_range or (None, None)
    checks = (
        ("min_silhouette_iou", _below("silhouette IoU", quality["silhouette_iou"], params.min_silhouette_iou)),
        ("min_best_view_iou", _below("best-view IoU", quality.get("best_view_iou"), params.min_best_view_iou)),
        ("min_psnr_db", _below("PSNR", quality["psnr_db"], params.min_psnr_db, " dB")),
        ("brightness_range", _below("brightness", quality["brightness_ratio"], low)),
        ("brightness_range", _above("brightness", quality["brightness_ratio"], high)),
        ("min_area", _below("area", quality["area"], params.min_area)),
        ("max_components", _above("components", quality["components"], params.max_components)),
        ("require_watertight", "not watertight" if params.require_watertight and not quality["watertight"] else None),
        ("max_chamfer", _above("Chamfer", quality["chamfer"], params.max_chamfer)),
    )
    return [Reason(limit, text) for limit, text in checks if text]


@dataclass(frozen=True)
class Tally:
    """The verdicts over a collection. rejected: the reasons by item id, in the order of ids."""

    total: int
    rejected: Mapping[str, list[Reason]]

    @property
    def accepted(self) -> int:
        return self.total - len(self.rejected)

    @property
    def share(self) -> float | None:
        """Accepted items over all that were measured; None without any."""
        return self.accepted / self.total if self.total else None

    def by_limit(self) -> Counter[str]:
        """Rejected items by the limit that they fail; an item may fail several."""
        return Counter(limit for reasons in self.rejected.values() for limit in {reason.limit for reason in reasons})


def tally(records: Iterable[Record], params: GateParams) -> Tally:
    """The verdict on every record of the gate."""
    total, rejected = 0, {}
    for record in records:
        total += 1
        if reasons := verdict(record.quality, params):
            rejected[record.id] = reasons
    return Tally(total, dict(sorted(rejected.items())))


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


def _below(name: str, value: Json, limit: float | None, unit: str = "") -> str | None:
    if value is None or limit is None or value >= limit:
        return None
    return f"{name} {_written(value, limit)} < {limit:g}{unit}"


def _above(name: str, value: Json, limit: float | None) -> str | None:
    if value is None or limit is None or value <= limit:
        return None
    return f"{name} {_written(value, limit)} > {limit:g}"


def _written(value: float, limit: float) -> str:
    """Three digits, or as many as it takes to tell the value from the limit."""
    return next(text for digits in (3, 6, 17) if (text := f"{value:.{digits}g}") != f"{limit:.{digits}g}")

"""gate: is this worth training on? The teacher's cast of every item against what the teacher was shown, in figures.

The mesh is judged where the teacher stored one, else the first kind of its casts (`models.casts`) that has a surface or
can be drawn. A mesh is rendered from the cameras of the matted views, by the renderer that made them; another kind as
it draws itself. Figures (`quality`), in the words of `tasks/stages/gate/verdict.py`, which makes accepted and rejected
of them:

of the views     silhouette_iou, side_ratio, flipped_iou_gain, psnr_db, flipped_psnr_gain_db, brightness_ratio; of views
                 without cameras (photos) best_view_iou in their place
of the surface   area, area_to_hull, outward_share, components, watertight
with the truth   chamfer, normal_consistency, of the surface

A figure that cannot be had is null: those of colours where the mesh has none, those with the truth where there is none;
the facts say which. Of an item without a mesh they also say what was `judged`, and which `kinds` the teacher stored.
Where none of these has a surface or can be drawn, `judged` is null: every figure is, and the item is accepted
unmeasured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any

from models.casts import MESH, stored_kinds
from models.geometry import FRAME
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, Json, Output, Stage
from tasks.stages.gate.verdict import MEASURED, WORDS, GateParams, Tally, is_unmeasured, label_of, tally, verdict

TRUTH, CAMERAS, VIEW, PICTURE = "mesh.glb", "cameras.json", "view.", "gate.png"
FIGURES = tuple(WORDS)
MOST_ROWS = 200
"""Rejected items that metrics.json names."""


class Gate(Stage):
    """Writes gate.png: the compared views in a row, and below them the cast from the same cameras, where it can be
    drawn.

    A rejected item is done: it keeps its figures, and so its reasons, and its picture.
    """

    name = "gate"
    upstreams = ("teach", "matte", "ingest")
    Params = GateParams

    def key_params(self, params: Any) -> Json:
        """Limits do not change a figure."""
        block: GateParams = params.stage(self.name)
        return block.model_dump(mode="json", include=set(MEASURED))

    def skip(self, records: Mapping[str, Record], params: Any) -> str | None:
        if stored_kinds(records["teach"].files):
            return None
        return "what the teacher made of it is of no kind known here; install the package that brings it"

    def reads(self, records: Mapping[str, Record], params: Any) -> Iterable[tuple[str, str]]:
        """The teacher's mesh, or else all its casts; the views that are compared and their cameras; the truth."""
        casts = stored_kinds(records["teach"].files)
        chosen = [casts[MESH]] if MESH in casts else casts.values()
        read = [("teach", name) for names in chosen for name in names]
        read += [("matte", f"{VIEW}{view}.png") for view in compared_views(records, params.stage(self.name))]
        if has_cameras(records):
            read.append(("matte", CAMERAS))
        if has_truth(records):
            read.append(("ingest", TRUTH))
        return read

    def start(self, context: Context) -> Callable[[Item], Output]:
        from tasks.stages.gate.measures import measure

        params: GateParams = context.params.stage(self.name)

        def run(item: Item) -> Output:
            measured = measure(item, params)
            return Output({PICTURE: measured.picture}, FRAME, measured.quality, facts=measured.facts)

        return run

    def remark(self, record: Record, params: Any) -> str:
        reasons = verdict(record.quality, params.stage(self.name))
        if is_unmeasured(record):
            kinds = ", ".join(record.facts["kinds"])
            return f"accepted unmeasured: what the teacher stored ({kinds}) has no surface and cannot be drawn"
        return f"rejected: {', '.join(map(str, reasons))}" if reasons else "accepted"

    def metrics(self, records: Iterable[Record], context: Context) -> dict[str, Json]:
        """accepted, of these unmeasured, rejected, share, rejected_by limit, median of each figure, and the first
        rejected items."""
        found = list(records)
        judged = tally(found, context.params.stage(self.name))
        labels = context.upstreams["ingest"].records
        named = list(judged.rejected.items())[:MOST_ROWS]
        return {
            "accepted": judged.accepted,
            "unmeasured": len(judged.unmeasured),
            "rejected": len(judged.rejected),
            "share": None if judged.share is None else round(judged.share, 6),
            "rejected_by": dict(sorted(judged.by_limit().items())),
            "median": {name: figure for name in FIGURES if (figure := _median(found, name)) is not None},
            "rejected_items": [
                {"id": item_id, "label": label_of(labels, item_id), "reasons": [reason.text for reason in reasons]}
                for item_id, reasons in named
            ],
            **({"notices": [_unmeasured(judged, labels)]} if judged.unmeasured else {}),
        }


def _unmeasured(judged: Tally, ingested: Mapping[str, Record]) -> str:
    """A sentence about the items that no limit applies to."""
    first = label_of(ingested, judged.unmeasured[0])
    return (
        f"{len(judged.unmeasured)} of {judged.total} items are accepted unmeasured: what the teacher stored has no "
        f"surface and cannot be drawn. Look at some before you train: `lostwax show {first} -o DIR`"
    )


def compared_views(records: Mapping[str, Record], params: GateParams) -> list[str]:
    """The chosen views that the item has; where it has none of them, its first ones by name."""
    files = records["matte"].files if "matte" in records else {}
    present = sorted(name.removeprefix(VIEW).removesuffix(".png") for name in files if name.startswith(VIEW))
    return [view for view in params.views if view in present] or present[: len(params.views)]


def has_cameras(records: Mapping[str, Record]) -> bool:
    """Whether the cameras of the item's matted views are known."""
    return "matte" in records and CAMERAS in records["matte"].files


def has_truth(records: Mapping[str, Record]) -> bool:
    """Whether the item has a true mesh."""
    return "ingest" in records and bool(records["ingest"].facts.get("has_truth")) and TRUTH in records["ingest"].files


def _median(records: Iterable[Record], name: str) -> float | None:
    values = [value for record in records if (value := record.quality.get(name)) is not None]
    return round(float(median(values)), 6) if values else None

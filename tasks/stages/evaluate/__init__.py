"""evaluate: the student on unseen items, beside its teacher and what a sceptic asks for, all by one protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from models.params import Block
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, Json, Output, Stage, Wanted
from tasks.stages.evaluate.references import class_of, has_truth, training_digest, training_items
from tasks.stages.train import DESCRIPTION, WEIGHTS

if TYPE_CHECKING:
    from models.metrics import Protocol

STUDENT_FILES = (DESCRIPTION, WEIGHTS)
Baseline = Literal["mean_shape", "nearest", "ellipsoid", "icosphere_fit"]


class EvaluateParams(Block):
    split: Literal["train", "val", "test"] = "test"
    """The items that are evaluated."""
    baselines: tuple[Baseline, ...] = ("mean_shape", "nearest", "ellipsoid", "icosphere_fit")
    """What the student is compared with, beside its teacher."""
    num_points: int = Field(10_000, ge=100)
    """Area-uniform samples of each surface."""
    thresholds: tuple[float, ...] = Field((0.01, 0.02), min_length=1)
    """Of the F-scores, in units of the longest side, ascending; `fscore` is at the first."""
    iou_resolution: int = Field(64, ge=8, le=512)
    """Cells along the longest side, for the volumetric IoU."""
    icosphere_fit_steps: int = Field(100, ge=2)
    """Of the icosphere's fit to the truth; 100 take about a second."""
    reference_items: int = Field(500, ge=1)
    """Most training items a class behind mean_shape and nearest, the first by id."""
    seed: int = Field(0, ge=0)
    """Of the samples, the icosphere's fit and the bootstrap."""

    @field_validator("thresholds")
    @classmethod
    def _ascending(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if min(thresholds) <= 0 or list(thresholds) != sorted(set(thresholds)):
            raise ValueError("thresholds must be positive and ascending")
        return thresholds

    def protocol(self) -> Protocol:
        """The metrics' protocol that these params choose."""
        from models.metrics import Protocol

        return Protocol(self.num_points, self.thresholds, self.iou_resolution, self.seed)


class Evaluate(Stage):
    """Quality of a record: {method: {metric: value}}; methods are student, teacher and the baselines.

    With truth the metrics are chamfer, accuracy, completeness, fscore, normal_consistency and iou. Without, they are
    the proxies proxy_chamfer_to_teacher and proxy_silhouette_iou. Facts: class, basis ("truth" or "proxy"), floor (the
    metrics of the truth against itself, sampled twice), nearest (id of that training item).
    """

    name = "evaluate"
    upstreams = ("features", "train", "teach", "ingest", "matte")
    Params = EvaluateParams

    def uses_gpu(self, params: Any) -> bool:
        return True

    def unwanted(self, item_id: str, context: Context) -> str | None:
        record, wanted = context.upstreams["ingest"].records.get(item_id), context.params.stage(self.name).split
        if record is None or _split(record) == wanted:
            return None
        return f"it is in the {_split(record)} split; {wanted} is evaluated"

    def wanted(self, context: Context) -> Iterator[Wanted]:
        block: EvaluateParams = context.params.stage(self.name)
        ingested = context.upstreams["ingest"].records
        student = context.upstreams["train"].records.get("train")
        training = training_digest(training_items(context.upstreams, block.reference_items))
        featured = context.upstreams["features"].records
        chosen = [item_id for item_id in featured if item_id in ingested and _split(ingested[item_id]) == block.split]
        if featured and not chosen:
            raise ValueError(
                f"none of the {len(featured)} items is in the {block.split} split; add items, "
                "raise ingest.split, or set evaluate.split"
            )
        for item_id in chosen:
            records = {
                stage: context.upstreams[stage].records[item_id]
                for stage in ("features", "teach", "ingest", "matte")
                if item_id in context.upstreams[stage].records
            }
            label = str(ingested[item_id].facts.get("label", item_id))
            skip = self._why_not(records, student)
            if skip or student is None:
                yield Wanted(item_id, label, (), records, skip)
                continue
            facts = json.dumps([class_of(records["ingest"]), has_truth(records["ingest"])])
            inputs = (
                *((f"train/{name}", student.files[name].sha256) for name in STUDENT_FILES),
                *((f"{stage}/{name}", records[stage].files[name].sha256) for stage, name in files_read(records)),
                ("ingest facts", hashlib.sha256(facts.encode()).hexdigest()),
                *([("training items", training)] if {"mean_shape", "nearest"} & {*block.baselines} else []),
            )
            yield Wanted(item_id, label, inputs, records)

    def start(self, context: Context) -> Callable[[Item], Output]:
        from tasks.stages.evaluate.judge import Judge

        judge = Judge(context)
        return judge.judge

    def metrics(self, records: Iterable[Record], context: Context) -> dict[str, Json]:
        from tasks.stages.evaluate.summary import summarise

        block: EvaluateParams = context.params.stage(self.name)
        return summarise(records, block.split, block.protocol(), block.seed)

    def _why_not(self, records: Mapping[str, Record], student: Record | None) -> str | None:
        if student is None:
            return "there is no trained student; run `lostwax run --until train`"
        if has_mesh(records, "ingest") or has_mesh(records, "teach") or held_out_views(records):
            return None
        return "nothing to compare with: it has no true mesh, no teacher's, and no held-out view of a known camera"


def has_mesh(records: Mapping[str, Record], stage: str) -> bool:
    """Whether the item has a mesh in `teach`, or a true one in `ingest`."""
    if stage not in records:
        return False
    return has_truth(records[stage]) if stage == "ingest" else "mesh.glb" in records[stage].files


def files_read(records: Mapping[str, Record]) -> list[tuple[str, str]]:
    """(stage, file) of the meshes, the grids, and the views whose silhouettes count: all of them without truth."""
    read = [("features", name) for name in sorted(records["features"].files)]
    read += [(stage, "mesh.glb") for stage in ("teach", "ingest") if has_mesh(records, stage)]
    if has_cameras(records):
        views = {*records["features"].facts["views"]} & matted_views(records)
        if not has_mesh(records, "ingest"):
            views |= held_out_views(records)
        read += [("matte", "cameras.json"), *(("matte", f"view.{view}.png") for view in sorted(views))]
    return read


def held_out_views(records: Mapping[str, Record]) -> set[str]:
    """Matted views of known cameras that no student has seen."""
    return matted_views(records) - {*records["features"].facts["views"]} if has_cameras(records) else set()


def matted_views(records: Mapping[str, Record]) -> set[str]:
    """Names of the item's matted views."""
    names = records["matte"].files if "matte" in records else ()
    return {name.removeprefix("view.").removesuffix(".png") for name in names if name.startswith("view.")}


def has_cameras(records: Mapping[str, Record]) -> bool:
    """Whether the cameras of the item's matted views are known."""
    return "matte" in records and "cameras.json" in records["matte"].files


def _split(record: Record) -> str:
    return str(record.facts["split"])

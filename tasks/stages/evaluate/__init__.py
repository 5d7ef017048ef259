"""evaluate: the students on unseen items, beside the teacher and what a sceptic asks for, all by one protocol.

One record an item and method: a new student computes nothing of the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from models.needs import TEACHER as TEACHER_MESH
from models.needs import TOKENS, TRUTH, Need
from models.params import Block
from models.trained import DESCRIPTION, WEIGHTS
from tasks.collections.records import Record
from tasks.engine.stage import Context, Inputs, Item, Json, Output, Stage, Wanted
from tasks.stages import catalog
from tasks.stages.evaluate.methods import FLOOR, TEACHER, all_methods, record_id, student_methods
from tasks.stages.evaluate.references import class_of, training_digest, training_items
from tasks.stages.ingest import has_truth
from tasks.stages.matte import CAMERAS, matted_views, view_file
from tasks.stages.students import MAIN, choice

if TYPE_CHECKING:
    from models.metrics import Protocol

STUDENT_FILES = (DESCRIPTION, WEIGHTS)
Records = Mapping[str, Record]
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
    """Of the samples, of students that draw, of the icosphere's fit and of the bootstrap."""

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
    """Quality of a record: {metric: value}, what the kind of its cast measures (`models.casts`); without truth, proxies
    that are named so. Facts: item, method, kind, class, basis ("truth" or "proxy"), and of `nearest` the id of that
    training item. Students' casts and the mean shape are kept, for the report.
    """

    name = "evaluate"
    upstreams = (*catalog.all_stages(), "train")
    Params = EvaluateParams
    watches = ("train", "students", "features")

    def uses_gpu(self, params: Any) -> bool:
        return True

    def key_params(self, params: Any) -> Json:
        """What every record depends on; the rest is in the inputs of the methods that read it."""
        block: EvaluateParams = params.stage(self.name)
        return block.model_dump(mode="json", include={"num_points", "thresholds", "iou_resolution", "seed"})

    def ids_of(self, item_id: str, params: Any) -> list[str]:
        return [record_id(item_id, method) for method in all_methods(params)]

    def unwanted(self, item_id: str, context: Context) -> str | None:
        record, wanted = context.upstreams["ingest"].records.get(item_id), context.params.stage(self.name).split
        if record is None or _split(record) == wanted:
            return None
        return f"it is in the {_split(record)} split; {wanted} is evaluated"

    def wanted(self, context: Context) -> Iterator[Wanted]:
        block: EvaluateParams = context.params.stage(self.name)
        ingested = context.upstreams["ingest"].records
        chosen = [item_id for item_id, record in ingested.items() if _split(record) == block.split]
        if not chosen:
            yield from _none_held_out(ingested, block.split)
        methods = _Methods(context)
        for item_id in chosen:
            records = catalog.records_of(item_id, context.upstreams)
            label = str(ingested[item_id].facts.get("label", item_id))
            if reason := methods.why_not(records):
                yield Wanted(record_id(item_id, "student"), label, (), records, reason, item=item_id)
                continue
            common = _evidence(records)
            for method in all_methods(context.params):
                inputs = methods.inputs(method, records)
                if inputs is not None:
                    yield Wanted(
                        record_id(item_id, method),
                        f"{label}, {method}",
                        tuple(sorted({("method", method), *common, *inputs})),
                        records,
                        payload=method,
                        item=item_id,
                    )

    def start(self, context: Context) -> Callable[[Item], Output]:
        from tasks.stages.evaluate.judge import Judge

        judge = Judge(context)
        return judge.judge

    def metrics(self, records: Iterable[Record], context: Context) -> dict[str, Json]:
        from tasks.stages.evaluate.summary import summarise

        block: EvaluateParams = context.params.stage(self.name)
        return summarise(records, block.split, block.protocol(), block.seed)

    def scores(self, metrics: Mapping[str, Json], context: Context) -> dict[str, Json]:
        from tasks.stages.evaluate.summary import scores

        return scores(metrics, context.params.stage(self.name).split)


class _Methods:
    """What each method reads of an item."""

    def __init__(self, context: Context) -> None:
        self._params, self._context = context.params, context
        self._block: EvaluateParams = context.params.stage("evaluate")
        self._students = student_methods(context.params)
        self._trained = context.upstreams["train"].records
        training = training_items(context.upstreams, self._block.reference_items)
        self._training = training_digest(training)
        self._classes = {item.label_class for item in training}

    def why_not(self, records: Records) -> str | None:
        """Why an item is not evaluated at all."""
        if MAIN not in self._trained:
            return "there is no trained student; run `lostwax run --until train`"
        if reason := catalog.lacks(self._given(MAIN), records, self._params):
            return reason
        if has_truth(records["ingest"]) or _has(TEACHER_MESH, records) or unseen_views(records):
            return None
        return "nothing to compare with: it has no true mesh, no teacher's, and no held-out view of a known camera"

    def inputs(self, method: str, records: Records) -> Inputs | None:
        """What enters the key of an item beside the evidence; None where the method does not apply to it."""
        if method in self._students:
            return self._student(self._students[method], records)
        truth = has_truth(records["ingest"])
        label_class = class_of(records["ingest"])
        match method:
            case _ if method == TEACHER:
                return catalog.inputs_of((TEACHER_MESH,), records, self._params) or None
            case _ if method == FLOOR:
                return () if truth else None
            case "mean_shape":
                return (("training items", self._training),) if label_class in self._classes else None
            case "nearest":
                read = catalog.inputs_of((TOKENS,), records, self._params)
                return (*read, ("training items", self._training)) if read and self._classes else None
            case "ellipsoid":
                return _view_inputs(seen_views(records), records) or None
            case "icosphere_fit":
                return (("steps", str(self._block.icosphere_fit_steps)),) if truth else None
        raise ValueError(f"unknown method {method!r}")

    def _student(self, name: str, records: Records) -> Inputs | None:
        given = self._given(name)
        if name not in self._trained or catalog.lacks(given, records, self._params):
            return None
        trained = tuple((f"train/{file}", self._trained[name].files[file].sha256) for file in STUDENT_FILES)
        own = choice(self._params, name)
        options = own.plugin_params.model_dump(mode="json", include=set(own.plugin_params.USE_ONLY))
        return (*trained, *catalog.inputs_of(given, records, self._params), ("options", json.dumps(options)))

    def _given(self, name: str) -> tuple[Need[Any], ...]:
        return choice(self._params, name).needs.given


def _none_held_out(ingested: Mapping[str, Record], split: str) -> Iterator[Wanted]:
    """All items, skipped: they are too few, or all named for other splits."""
    reason = f"no item is in the {split} split; add items, raise ingest.split, or set evaluate.split"
    for item_id, record in ingested.items():
        label = str(record.facts.get("label", item_id))
        yield Wanted(record_id(item_id, "student"), label, (), skip=reason, item=item_id)


def _evidence(records: Records) -> Inputs:
    """What a cast of the item is measured against, and what it is pooled by."""
    facts = json.dumps([class_of(records["ingest"]), has_truth(records["ingest"])])
    told = ("ingest facts", hashlib.sha256(facts.encode()).hexdigest())
    if has_truth(records["ingest"]):
        return (told, *catalog.inputs_of((TRUTH,), records, None))
    return (
        told,
        *catalog.inputs_of((TEACHER_MESH,), records, None),
        *_view_inputs(unseen_views(records), records),
    )


def _view_inputs(views: Sequence[str], records: Records) -> Inputs:
    names = [*map(view_file, views), CAMERAS] if views else []
    return tuple((f"matte/{name}", records["matte"].files[name].sha256) for name in names)


def seen_views(records: Records) -> list[str]:
    """Matted views of known cameras that students are shown."""
    shown = set(records["features"].facts["views"]) if "features" in records else set()
    return [view for view in _posed_views(records) if view in shown]


def unseen_views(records: Records) -> list[str]:
    """Matted views of known cameras that no student has seen."""
    seen = seen_views(records)
    return [view for view in _posed_views(records) if view not in seen]


def _posed_views(records: Records) -> list[str]:
    if "matte" not in records or CAMERAS not in records["matte"].files:
        return []
    return matted_views(records["matte"])


def _has(need: Need[Any], records: Records) -> bool:
    return catalog.lacks((need,), records, None) is None


def _split(record: Record) -> str:
    return str(record.facts["split"])

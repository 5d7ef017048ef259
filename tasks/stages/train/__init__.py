"""train: the student, from the features, teacher meshes and true meshes of the training items. A product.

Only items that the gate accepts are trained and validated on, and a collection of which it accepts too small a share
is refused.

Files: student.safetensors (averaged weights, best by validation Chamfer), student.json (what it takes to load them) and
history.json (rows by step and by epoch), epochs.json (the latter alone, for `dvc plots`). `load_student(files)` gives
the student back, for evaluation and generation. Which items it is trained on, and whether from scratch, is decided in
tasks/stages/train/new_data.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from models import plugins
from models.errors import BadInput
from models.geometry import Mesh, sample_surface
from models.students import FeatureSpec
from models.training.recipe import Recipe
from tasks.collections.records import Record
from tasks.engine.stage import Context, Inputs, Item, Json, Output, Stage, Upstream, Wanted, item_key
from tasks.stages.features import GRIDS
from tasks.stages.gate.verdict import GateParams, refusal, tally, verdict
from tasks.stages.prepare import preparation
from tasks.stages.train.new_data import Choice, Chooser, OnNewData, Start, weights_of

if TYPE_CHECKING:
    import torch

    from models.students import Student
    from models.training.data import ShapeSet

STORED_POINTS = 20_000
"""Points sampled on each mesh once; every step draws from them."""
NEW_DATA_PARAMS = ("on_new_data", "warm_start_epochs")
"""Out of every key: a warm start's epochs enter its own as an input."""
WEIGHTS, DESCRIPTION, HISTORY = "student.safetensors", "student.json", "history.json"
EPOCHS = "epochs.json"


class TrainParams(Recipe):
    """The `train` block: the student and how it is trained."""

    student: str = "mesh_deform"
    """Plug-in of models/students; its own block is `students.NAME`."""
    on_new_data: OnNewData = "retrain"
    """What new items mean to the published student, while those it was trained on, params and versions are unchanged.
    retrain: it is trained anew over everything. warm_start: over everything too, going out from its weights, for
    `warm_start_epochs`. pin: it stays, and they are left out of training. Where more has changed, each retrains."""
    warm_start_epochs: int | None = Field(None, ge=1)
    """Epochs of a warm start; null is a quarter of `epochs`, rounded up."""

    @property
    def epochs_of_a_warm_start(self) -> int:
        return self.warm_start_epochs or -(-self.epochs // 4)

    def recipe(self) -> Recipe:
        """What the training engine is told."""
        return Recipe(**self.model_dump(include=set(Recipe.model_fields)))


class Train(Stage):
    """Trains on the items of split `train` with features and an accepted teacher's mesh, validates on those of `val`.

    Quality: val_chamfer (None without validation items), val_is_proxy (measured to the teacher, for want of truth),
    num_steps, num_parameters, num_train, num_val, num_without_truth and num_reduced (of the training items: those
    whose alpha is 1, and those whose teacher ran at reduced quality). Facts: student, encoder, items (ids of all that
    it was trained and validated on), and of a warm start warm_from (sha256 of the weights) and warm_epochs.
    """

    name = "train"
    upstreams = ("features", "teach", "ingest", "gate")
    Params = TrainParams
    product = True
    publishes = (EPOCHS,)

    def uses_gpu(self, params: Any) -> bool:
        return True

    def plugins(self, params: Any) -> dict[str, str]:
        return {"students": params.stage(self.name).student}

    def key_params(self, params: Any) -> Json:
        block: TrainParams = params.stage(self.name)
        return block.model_dump(mode="json", exclude={"checkpoint_every_steps", *NEW_DATA_PARAMS})

    def wanted(self, context: Context) -> Iterator[Wanted]:
        """One product, whose key holds every file it reads and every fact that decides how it is used."""
        block: TrainParams = context.params.stage(self.name)
        sources = find_sources(context.upstreams, ("train", "val"), context.params.stage("gate"))
        prepared = ("preparation", _digest(preparation(context.params)))
        by_item = {source.id: source.inputs() for source in sources}

        def inputs(items: frozenset[str], start: Start | None) -> Inputs:
            read = [entry for item_id, entries in by_item.items() if item_id in items for entry in entries]
            return (prepared, *read, *([("warm start", _digest(start.to_json()))] if start else []))

        choice = _choose(block, context, sources, lambda items, start: item_key(context.recipe, inputs(items, start)))
        yield Wanted(
            self.name,
            self.name,
            inputs(choice.items, choice.start),
            payload=choice.start.to_json() if choice.start else None,
            note=choice.note,
            outlook=choice.outlook,
            settled=choice.settled,
        )

    def refusal(self, context: Context) -> str | None:
        """Too few items that the gate accepts."""
        limits: GateParams = context.params.stage("gate")
        ingested = context.upstreams["ingest"].records
        return refusal(tally(context.upstreams["gate"].records.values(), limits), limits, ingested)

    def start(self, context: Context) -> Callable[[Item], Output]:
        return lambda item: _train(item, context)

    def metrics(self, records: Iterable[Record], context: Context) -> dict[str, Json]:
        """The quality of the one product."""
        return next((dict(record.quality) for record in records), {})


def load_student(files: Mapping[str, bytes]) -> Student:
    """The trained student of a train product's files, on CPU. It needs no teacher and no training data."""
    from safetensors.torch import load

    description = json.loads(files[DESCRIPTION])
    plugin = plugins.load("students", description["student"])
    spec = FeatureSpec.from_json(description["features"])
    student: Student = plugin.create(plugin.Params(**description["params"]), spec, seed=0)
    student.network.load_state_dict(load(files[WEIGHTS]))
    return student


def preparation_of(files: Mapping[str, bytes]) -> Mapping[str, Any]:
    """How the images of a train product were made ready; see `tasks.stages.prepare`."""
    kept: Mapping[str, Any] = json.loads(files[DESCRIPTION])["preparation"]
    return kept


@dataclass(frozen=True)
class Source:
    """An item to train or validate on: its records, and what of them is used."""

    id: str
    features: Record
    teach: Record
    ingest: Record

    @property
    def split(self) -> str:
        return str(self.ingest.facts["split"])

    @property
    def has_truth(self) -> bool:
        return bool(self.ingest.facts["has_truth"])

    def files(self) -> list[tuple[str, str, str]]:
        """(stage, name, sha256) of the files read."""
        read = [("features", GRIDS, self.features), ("teach", "mesh.glb", self.teach)]
        if self.has_truth:
            read.append(("ingest", "mesh.glb", self.ingest))
        return [(stage, name, record.files[name].sha256) for stage, name, record in read]

    def inputs(self) -> list[tuple[str, str]]:
        """What enters the key of it: the files read, and the facts that decide how they are used."""
        files = [(f"{stage}/{self.id}/{name}", sha256) for stage, name, sha256 in self.files()]
        return [*files, (f"facts/{self.id}", _digest([self.split, self.has_truth]))]


def find_sources(upstreams: Mapping[str, Upstream], splits: tuple[str, ...], gate: GateParams | None) -> list[Source]:
    """The items of these splits by id that have features and a teacher's mesh, and that the gate accepts.

    gate: its limits; None takes what it rejects or has not measured, too (a test set must not be made easier).
    """
    features, teach, ingest, measured = (upstreams[name].records for name in Train.upstreams)
    ids = features.keys() & teach.keys() & ingest.keys()
    if gate is not None:
        ids = {item_id for item_id in ids & measured.keys() if not verdict(measured[item_id].quality, gate)}
    sources = [Source(item_id, features[item_id], teach[item_id], ingest[item_id]) for item_id in sorted(ids)]
    return [source for source in sources if source.split in splits and "mesh.glb" in source.teach.files]


def feature_spec(sources: Sequence[Source], views: tuple[str, ...]) -> FeatureSpec:
    """What the items' grids have in common, with those of the views that any has. ValueError where they differ."""
    kinds = {(s.features.facts["encoder"], s.features.facts["channels"], *s.features.facts["grid"]) for s in sources}
    if len(kinds) > 1:
        raise ValueError(f"features are of several kinds: {sorted(kinds)}; run `lostwax run --until features` again")
    ((encoder, channels, height, width),) = kinds
    present = {name for source in sources for name in source.features.facts["views"]}
    return FeatureSpec(encoder, channels, (height, width), tuple(name for name in views if name in present))


def load_shapes(
    sources: Sequence[Source], spec: FeatureSpec, upstreams: Mapping[str, Upstream], progress: Callable[[str], None]
) -> ShapeSet:
    """Grids and surface points of the items, read once."""
    import torch
    from safetensors.numpy import load

    from models.training.data import ShapeSet

    features, teach, ingest = (upstreams[name] for name in ("features", "teach", "ingest"))
    num_items, num_views = len(sources), len(spec.views)
    tokens = np.zeros((num_items, num_views, *spec.grid, spec.channels), np.float16)
    present = np.zeros((num_items, num_views), np.bool_)
    teacher = np.empty((num_items, STORED_POINTS, 3), np.float32)
    truth = np.empty_like(teacher)
    for place, source in enumerate(sources):
        grids = load(features.read(source.id, GRIDS))
        for view, name in enumerate(spec.views):
            if f"tokens.{name}" in grids:
                tokens[place, view] = grids[f"tokens.{name}"]
                present[place, view] = True
        teacher[place] = _surface_points(teach, source.id)
        truth[place] = _surface_points(ingest, source.id) if source.has_truth else teacher[place]
        if (place + 1) % 25 == 0:
            progress(f"reading item {place + 1}/{num_items}")
    has_truth = np.array([source.has_truth for source in sources])
    return ShapeSet(*(torch.from_numpy(array) for array in (tokens, present, teacher, truth, has_truth)))


def _choose(
    block: TrainParams,
    context: Context,
    sources: Sequence[Source],
    key: Callable[[frozenset[str], Start | None], str],
) -> Choice:
    """Which student is wanted of these items."""
    published = context.published.records.get("train") if context.published else None
    chooser = Chooser((source.id for source in sources), context.recipe, key, list(context.held()), published)
    if block.on_new_data == "pin":
        return chooser.pin()
    if block.on_new_data == "warm_start":
        return chooser.warm_start(block.epochs_of_a_warm_start, lambda record: _has_shape(record, context, sources))
    return chooser.retrain()


def _has_shape(record: Record, context: Context, sources: Sequence[Source]) -> bool:
    """Whether a finished student is what would be made for these items: they may bring views that it does not know."""
    try:
        made = _json_bytes(_describe(context, feature_spec(sources, _view_names(context))))
    except ValueError:  # the training says it
        return False
    return hashlib.sha256(made).hexdigest() == record.files[DESCRIPTION].sha256


def _describe(context: Context, spec: FeatureSpec) -> dict[str, Json]:
    """student.json: what it takes to make the student again."""
    name = context.params.stage("train").student
    params = context.params.plugin("students", name).model_dump(mode="json")
    kept = preparation(context.params)
    return {"student": name, "params": params, "features": spec.to_json(), "preparation": kept}


def _train(item: Item, context: Context) -> Output:
    from safetensors.torch import save

    from models.training.engine import train

    block: TrainParams = context.params.stage("train")
    plugin_params = context.params.plugin("students", block.student)
    sources = find_sources(context.upstreams, ("train", "val"), context.params.stage("gate"))
    payload = context.payload(item.id)
    start = Start(payload["warm_from"], payload["warm_epochs"]) if payload else None
    recipe, weights = block.recipe(), None
    if start:
        weights, sources = _go_out_from(start, context.published, sources)
        recipe = recipe.model_copy(update={"epochs": start.epochs})
    training = [source for source in sources if source.split == "train"]
    validation = [source for source in sources if source.split == "val"]
    if not training:
        raise BadInput(_why_nothing_to_train_on(context))
    spec = feature_spec(sources, _view_names(context))
    student: Student = plugins.load("students", block.student).create(plugin_params, spec, seed=block.seed)
    description = _describe(context, spec)
    result = train(
        student,
        load_shapes(training, spec, context.upstreams, context.progress),
        load_shapes(validation, spec, context.upstreams, context.progress) if validation else None,
        recipe,
        device=context.device,
        folder=item.work_dir / "checkpoints",
        config=description | (start.to_json() if start else {}),
        progress=context.progress,
        board=context.work_dir / "tensorboard" / item.key[:12],
        start=weights,
    )
    quality = {
        "val_chamfer": result.val_chamfer,
        "val_is_proxy": result.val_is_proxy,
        "num_steps": result.num_steps,
        "num_parameters": sum(parameter.numel() for parameter in student.network.parameters()),
        "num_train": len(training),
        "num_val": len(validation),
        "num_without_truth": sum(not source.has_truth for source in training),
        "num_reduced": sum(source.teach.rung > 0 for source in training),
    }
    files = {
        WEIGHTS: save({name: tensor.contiguous() for name, tensor in sorted(result.state.items())}),
        DESCRIPTION: _json_bytes(description),
        HISTORY: _json_bytes({"steps": result.history.steps, "epochs": result.history.epochs}),
        EPOCHS: _json_bytes(result.history.epochs),
    }
    facts = {"student": block.student, "encoder": spec.encoder, "items": [source.id for source in sources]}
    facts |= start.to_json() if start else {}
    return Output(files, quality=quality, facts=facts, measured=result.fit)


def _go_out_from(
    start: Start, published: Upstream | None, sources: Sequence[Source]
) -> tuple[dict[str, torch.Tensor], list[Source]]:
    """The weights of the published student, and the items in its order with the new ones behind.

    A student may know its items by their number: mesh_deform reads each by a map that was not fitted to it.
    """
    from safetensors.torch import load

    record = published.records.get("train") if published else None
    if published is None or record is None or weights_of(record) != start.weights:
        raise ValueError(f"the published student is not {start.weights[:8]}, from which to start; run again")
    order = {item_id: place for place, item_id in enumerate(record.facts["items"])}
    ordered = sorted(sources, key=lambda source: (order.get(source.id, len(order)), source.id))
    return load(published.read("train", WEIGHTS)), ordered


def _view_names(context: Context) -> tuple[str, ...]:
    """The views that features declares, in its order."""
    names: tuple[str, ...] = context.params.stage("features").views
    return names


def _surface_points(meshes: Upstream, item_id: str) -> Any:
    """STORED_POINTS area-uniform points of the item's mesh, the same at every reading."""
    seed = int.from_bytes(hashlib.sha256(f"{meshes.name}/{item_id}".encode()).digest()[:8])
    mesh = Mesh.from_glb(meshes.read(item_id, "mesh.glb"))
    return sample_surface(mesh, STORED_POINTS, np.random.default_rng(seed))[0]


def _why_nothing_to_train_on(context: Context) -> str:
    features, teach, ingest = (context.upstreams[name].records for name in ("features", "teach", "ingest"))
    in_split = [item_id for item_id, record in ingest.items() if record.facts["split"] == "train"]
    both = sum(item_id in features and item_id in teach for item_id in in_split)
    return (
        f"nothing to train on: of {len(ingest)} ingested items {len(in_split)} are in split train, of which {both} "
        "have both features and a teacher's mesh, and none is accepted by the gate. Add objects to the inbox, or see "
        "`lostwax status` for what failed or was skipped in features, teach and gate, and artifacts/gate/metrics.json "
        "for what was rejected"
    )


def _digest(value: Json) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _json_bytes(value: Json) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()

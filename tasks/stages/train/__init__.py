"""train: the students that params name, each a product of its own. What they read, they declare (models/needs.py).

Only items that the gate accepts are learned from where a student needs what a teacher made, and a collection of which
it accepts too small a share is refused.

Files of a student: student.safetensors and student.json (see `models.trained`), history.json (rows by step and by
epoch), epochs.json (the latter alone, for `dvc plots`). Which items it is trained on, and whether from scratch, is
decided in new_data.py; what enters its key beside them, in tasks/stages/students.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from pydantic import Field

from models.training.recipe import Recipe
from tasks.collections.records import Record
from tasks.engine.stage import Context, Inputs, Item, Json, Output, Stage, Wanted, item_key
from tasks.stages import catalog
from tasks.stages.gate.verdict import GateParams, refusal, tally
from tasks.stages.prepare import preparation
from tasks.stages.students import MAIN, Choice, choices, digest
from tasks.stages.train.new_data import Chooser, OnNewData, Start
from tasks.stages.train.sources import Sources, find_sources

EPOCHS, HISTORY = "epochs.json", "history.json"


class TrainParams(Recipe):
    """The `train` block: the student and how it is trained."""

    student: str = "mesh_deform"
    """Plug-in of models/students; its own block is `students.NAME`."""
    variants: dict[str, dict[str, Json]] = Field(default_factory=dict)
    """More students to train, compare and publish, by name: what each has otherwise, as `train.KEY` or
    `students.NAME.KEY`."""
    on_new_data: OnNewData = "retrain"
    """What new items mean to a published student, while those it was trained on, params and versions are unchanged.
    retrain: it is trained anew over everything. warm_start: over everything too, starting from its weights, for
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
    """Trains on the items of split `train` that have what the student needs, validates on those of `val`.

    Quality: val_METRIC of the best validation (none without validation items), selected_by (the metric that decided),
    val_is_proxy (it stands in for want of truth), num_steps, num_parameters, num_train, num_val, num_without_truth and
    num_reduced (of the training items: those without truth, and those whose teacher ran at reduced quality). Facts:
    student, settings (what is in its key), items (ids of all that it was trained and validated on), licences (of what
    it learned from), and of a warm start warm_from (sha256 of the weights) and warm_epochs.
    """

    name = "train"
    upstreams = (*catalog.all_stages(), "gate")
    Params = TrainParams
    product = True
    publishes = (EPOCHS,)
    plugin_blocks = ("students",)
    watches = ("gate", "matte", "features", "encoders.${features.encoder}")
    plots: ClassVar = {EPOCHS: {"x": "epoch", "y": "loss"}}

    def uses_gpu(self, params: Any) -> bool:
        return True

    def plugins(self, params: Any) -> dict[str, str]:
        return {"students": params.stage(self.name).student}

    def used_plugins(self, params: Any) -> Iterable[tuple[str, str]]:
        """Those of the variants, too."""
        return {("students", choice.block.student) for choice in choices(params)}

    def recipe_plugins(self, params: Any) -> dict[str, str]:
        """None: each student's own settings are in its inputs."""
        return {}

    def key_params(self, params: Any) -> Json:
        return {}

    def check_params(self, params: Any) -> None:
        """Every variant's."""
        choices(params)

    def wanted(self, context: Context) -> Iterator[Wanted]:
        """The students that params name. A key holds the student's settings, every file it reads and every fact that
        decides how it is used."""
        for choice in choices(context.params):
            yield _wanted(choice, context)

    def refusal(self, context: Context) -> str | None:
        """Too few items that the gate accepts, for students that need what a teacher made."""
        if not any(is_gated(choice) for choice in choices(context.params)):
            return None
        limits: GateParams = context.params.stage("gate")
        ingested = context.upstreams["ingest"].records
        return refusal(tally(context.upstreams["gate"].records.values(), limits), limits, ingested)

    def start(self, context: Context) -> Callable[[Item], Output]:
        from tasks.stages.train.work import train_student

        return lambda item: train_student(item, context)

    def metrics(self, records: Iterable[Record], context: Context) -> dict[str, Json]:
        """The quality of the main student; of the others by name under `variants`."""
        quality = {record.id: dict(record.quality) for record in records}
        main = quality.pop(MAIN, {})
        return main | ({"variants": quality} if quality else {})


def is_gated(choice: Choice) -> bool:
    """Whether the student learns from what a teacher made, and so from items that the gate accepts alone."""
    return "teach" in catalog.stages_of(choice.needs.all)


def sources_of(choice: Choice, context: Context) -> Sources:
    """The items that a student is to be trained and validated on, as things stand."""
    gate = context.params.stage("gate") if is_gated(choice) else None
    return find_sources(choice.needs, context.upstreams, ("train", "val"), gate, choice.params)


def _wanted(choice: Choice, context: Context) -> Wanted:
    sources, settings = sources_of(choice, context), choice.settings(context)
    common = (("settings", digest(settings)), ("preparation", digest(preparation(context.params, choice.needs))))
    by_item = {source.id: source.inputs(choice.needs, choice.params) for source in sources.chosen}

    def inputs(items: frozenset[str], start: Start | None) -> Inputs:
        read = [entry for item_id, entries in by_item.items() if item_id in items for entry in entries]
        return (*common, *read, *([("warm start", digest(start.to_json()))] if start else []))

    def key(items: frozenset[str], start: Start | None) -> str:
        return item_key(context.recipe, inputs(items, start))

    chosen = _choose(choice, context, sources, settings, key)
    return Wanted(
        choice.id,
        choice.id,
        inputs(chosen.items, chosen.start),
        payload={"settings": settings, "start": asdict(chosen.start) if chosen.start else None},
        note="; ".join(filter(None, [chosen.note, _left_out(sources, choice)])),
        outlook=chosen.outlook,
        settled=chosen.settled,
    )


def _left_out(sources: Sources, choice: Choice) -> str:
    """Words about the items that a student cannot use."""
    reasons = Counter(sources.left_out.values())
    words = ", ".join(f"{count} ({reason})" for reason, count in sorted(reasons.items()))
    return f"{choice.id}: items left out: {words}" if words else ""


def _choose(
    choice: Choice,
    context: Context,
    sources: Sources,
    settings: Mapping[str, Json],
    key: Callable[[frozenset[str], Start | None], str],
) -> Any:
    """Which student is wanted of these items."""
    block = choice.block
    published = context.published.records.get(choice.id) if context.published else None
    stored = [record for record in context.finished() if record.facts.get("settings") == settings]
    items = (source.id for source in sources.chosen)
    chooser = Chooser(items, settings, key, stored, published)
    if block.on_new_data == "pin":
        return chooser.pin()
    if block.on_new_data == "warm_start":
        return chooser.warm_start(
            block.epochs_of_a_warm_start, lambda record: _has_shape(record, choice, sources, context)
        )
    return chooser.retrain()


def _has_shape(record: Record, choice: Choice, sources: Sources, context: Context) -> bool:
    """Whether a finished student is what would be made for these items: they may bring views that it does not know."""
    import hashlib

    from models.trained import DESCRIPTION, describe, description_bytes

    try:
        spec = sources.spec(choice.needs, choice.params)
    except ValueError:  # the training says it
        return False
    kept = preparation(context.params, choice.needs)
    made = description_bytes(describe(choice.block.student, choice.plugin_params, spec, kept))
    return hashlib.sha256(made).hexdigest() == record.files[DESCRIPTION].sha256

"""The training itself, in the worker: sources to examples, the engine, the product's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.errors import BadInput
from models.students import Spec
from models.trained import WEIGHTS, describe, to_files
from tasks.engine.stage import Context, Item, Json, Output, Upstream
from tasks.stages.licences import learned_from
from tasks.stages.prepare import preparation
from tasks.stages.students import Choice, choice
from tasks.stages.train import EPOCHS, HISTORY, is_gated, sources_of
from tasks.stages.train.new_data import Start, weights_of
from tasks.stages.train.processes import fit_in_processes, num_processes, write_request
from tasks.stages.train.sources import Source, Sources

if TYPE_CHECKING:
    import torch

    from models.student import Student
    from models.training.distributed import World
    from models.training.engine import TrainingResult


def train_student(item: Item, context: Context) -> Output:
    """One student, from scratch or from the published one's weights."""
    plan = _Plan.of(item, context)
    request = write_request(item, context)
    count = num_processes(context.params, context.device)
    if count > 1 and not hasattr(plan.chosen.plugin, "fit"):
        result = fit_in_processes(request, count, context)
    else:
        result = fit(item, context, plan=plan)
    facts = {
        "student": plan.chosen.block.student,
        "settings": context.payload(item.id)["settings"],
        "items": [source.id for source in plan.sources.chosen],
        "licences": learned_from(plan.chosen.needs, (source.records for source in plan.sources.chosen)),
        **(plan.start.to_json() if plan.start else {}),
    }
    files = to_files(result.state, plan.description(context)) | _history_files(result)
    quality = _quality(result, plan.sources.split("train"), plan.sources.split("val"))
    return Output(files, quality=quality, facts=facts, measured=result.fit)


def fit(item: Item, context: Context, world: World | None = None, *, plan: _Plan | None = None) -> TrainingResult:
    """The training in this process. world: its place among several."""
    from models.training.distributed import ALONE
    from models.training.engine import Job, train
    from models.training.feeds import Listed

    plan = plan or _Plan.of(item, context)
    chosen, recipe, weights = plan.chosen, plan.chosen.block.recipe(), None
    if plan.start:
        weights = _weights_of_start(item.id, context.published)
        recipe = recipe.model_copy(update={"epochs": plan.start.epochs})
    student: Student = chosen.plugin.create(chosen.plugin_params, plan.spec, seed=chosen.block.seed)
    run = context.params.run
    job = Job(
        folder=item.work_dir / "checkpoints",
        device=context.device,
        config=plan.description(context) | (plan.start.to_json() if plan.start else {}),
        progress=context.progress,
        board=context.work_dir / "tensorboard" / item.key[:12],
        world=world or ALONE,
        start=weights,
        feed=run.examples,
        memory_bytes=None if run.examples_memory_mb is None else int(run.examples_memory_mb * 1e6),
    )

    def examples(split: str) -> Listed:
        sources = plan.sources.split(split)
        given = [source.given(chosen.needs, chosen.params, context.upstreams) for source in sources]
        return Listed(given, student.example)

    run_training = getattr(chosen.plugin, "fit", None) or train
    validation = examples("val") if plan.sources.split("val") else None
    result: TrainingResult = run_training(student, examples("train"), validation, recipe, job)
    return result


@dataclass(frozen=True)
class _Plan:
    """What is trained on what: the same in every process of a training."""

    chosen: Choice
    sources: Sources
    start: Start | None
    spec: Spec

    @staticmethod
    def of(item: Item, context: Context) -> _Plan:
        """Raises BadInput where there is nothing to train on, ValueError where a warm start has no beginning."""
        chosen = choice(context.params, item.id)
        sources = sources_of(chosen, context)
        payload = context.payload(item.id)
        start = Start(**payload["start"]) if payload["start"] else None
        if start:
            sources = _in_order_of_start(start, item.id, context.published, sources)
        if not sources.split("train"):
            raise BadInput(_why_nothing_to_train_on(sources, is_gated(chosen)))
        return _Plan(chosen, sources, start, sources.spec(chosen.needs, chosen.params))

    def description(self, context: Context) -> dict[str, Json]:
        """student.json."""
        kept = preparation(context.params, self.chosen.needs)
        return describe(self.chosen.block.student, self.chosen.plugin_params, self.spec, kept)


def _quality(result: TrainingResult, training: list[Source], validation: list[Source]) -> dict[str, Json]:
    metric = result.selected
    return {
        **{f"val_{name}": value for name, value in result.best.items()},
        "selected_by": metric.name if metric else None,
        "val_is_proxy": metric.is_proxy if metric else False,
        "num_steps": result.num_steps,
        "num_parameters": result.num_parameters,
        "num_train": len(training),
        "num_val": len(validation),
        "num_without_truth": sum(not source.has_truth for source in training),
        "num_reduced": sum(source.is_reduced for source in training),
    }


def _history_files(result: TrainingResult) -> dict[str, bytes]:
    """epochs.json has the rows that were validated, all with the same names: DVC plots no others."""
    validated = [row for row in result.epochs if any(name.startswith("val_") for name in row)]
    return {
        HISTORY: _json_bytes({"steps": result.steps, "epochs": result.epochs}),
        EPOCHS: _json_bytes(validated or result.epochs),
    }


def _in_order_of_start(start: Start, name: str, published: Upstream | None, sources: Sources) -> Sources:
    """The items in the published student's order, with the new ones behind.

    A student may know its items by their number: mesh_deform reads each by a map that was not fitted to it.
    """
    record = published.records.get(name) if published else None
    if record is None or weights_of(record) != start.weights:
        raise ValueError(f"the published student is not {start.weights[:8]}, from which to start; run again")
    order = {item_id: number for number, item_id in enumerate(record.facts["items"])}
    ordered = sorted(sources.chosen, key=lambda source: (order.get(source.id, len(order)), source.id))
    return Sources(ordered, sources.left_out)


def _weights_of_start(name: str, published: Upstream | None) -> Mapping[str, torch.Tensor]:
    """Of the published student."""
    from safetensors.torch import load

    assert published is not None, "the plan was made of it"
    weights: Mapping[str, torch.Tensor] = load(published.read(name, WEIGHTS))
    return weights


def _why_nothing_to_train_on(sources: Sources, gated: bool) -> str:
    reasons = sorted(set(sources.left_out.values()))
    why = f"{len(sources.left_out)} items of the splits train and val are left out: {'; '.join(reasons[:3])}"
    where = "`lostwax status` says what failed or was skipped"
    where += ", artifacts/gate/metrics.json what was rejected" if gated else ""
    return f"nothing to train on: {why if reasons else 'no item is in split train'}. Add objects to the inbox; {where}"


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()

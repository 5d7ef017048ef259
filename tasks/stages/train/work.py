"""The training itself, in the worker: sources to examples, the engine, the product's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.errors import BadInput
from models.trained import WEIGHTS, describe, to_files
from tasks.engine.stage import Context, Item, Json, Output, Upstream
from tasks.stages.prepare import preparation
from tasks.stages.students import choice
from tasks.stages.train import EPOCHS, HISTORY, is_gated, sources_of
from tasks.stages.train.new_data import Start, weights_of
from tasks.stages.train.sources import Source, Sources

if TYPE_CHECKING:
    import torch

    from models.student import Student
    from models.training.engine import Result


def train_student(item: Item, context: Context) -> Output:
    """One student, from scratch or from the published one's weights."""
    chosen = choice(context.params, item.id)
    sources = sources_of(chosen, context)
    payload = context.payload(item.id)
    start = Start(**payload["start"]) if payload["start"] else None
    recipe, weights = chosen.block.recipe(), None
    if start:
        weights, sources = _start_from(start, item.id, context.published, sources)
        recipe = recipe.model_copy(update={"epochs": start.epochs})
    training, validation = sources.split("train"), sources.split("val")
    if not training:
        raise BadInput(_why_nothing_to_train_on(sources, is_gated(chosen)))
    spec = sources.spec(chosen.needs, chosen.params)
    description = describe(chosen.block.student, chosen.plugin_params, spec, preparation(context.params, chosen.needs))

    from models.training.engine import Job, train
    from models.training.feeds import Listed

    student: Student = chosen.plugin.create(chosen.plugin_params, spec, seed=chosen.block.seed)
    run = context.params.run
    job = Job(
        folder=item.work_dir / "checkpoints",
        device=context.device,
        config=description | (start.to_json() if start else {}),
        progress=context.progress,
        board=context.work_dir / "tensorboard" / item.key[:12],
        start=weights,
        feed=run.examples,
        memory_bytes=None if run.examples_memory_mb is None else int(run.examples_memory_mb * 1e6),
    )

    def examples(chosen_sources: list[Source]) -> Listed:
        given = [source.given(chosen.needs, chosen.params, context.upstreams) for source in chosen_sources]
        return Listed(given, student.example)

    fit = getattr(chosen.plugin, "fit", None) or train
    result: Result = fit(student, examples(training), examples(validation) if validation else None, recipe, job)
    facts = {
        "student": chosen.block.student,
        "settings": payload["settings"],
        "items": [source.id for source in sources.chosen],
        **(start.to_json() if start else {}),
    }
    files = to_files(result.state, description) | _history_files(result)
    return Output(files, quality=_quality(result, training, validation), facts=facts, measured=result.fit)


def _quality(result: Result, training: list[Source], validation: list[Source]) -> dict[str, Json]:
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


def _history_files(result: Result) -> dict[str, bytes]:
    """epochs.json has the rows that were validated, all with the same names: DVC plots no others."""
    validated = [row for row in result.epochs if any(name.startswith("val_") for name in row)]
    return {
        HISTORY: _json_bytes({"steps": result.steps, "epochs": result.epochs}),
        EPOCHS: _json_bytes(validated or result.epochs),
    }


def _start_from(
    start: Start, name: str, published: Upstream | None, sources: Sources
) -> tuple[Mapping[str, torch.Tensor], Sources]:
    """The weights of the published student, and the items in its order with the new ones behind.

    A student may know its items by their number: mesh_deform reads each by a map that was not fitted to it.
    """
    from safetensors.torch import load

    record = published.records.get(name) if published else None
    if published is None or record is None or weights_of(record) != start.weights:
        raise ValueError(f"the published student is not {start.weights[:8]}, from which to start; run again")
    order = {item_id: number for number, item_id in enumerate(record.facts["items"])}
    ordered = sorted(sources.chosen, key=lambda source: (order.get(source.id, len(order)), source.id))
    return load(published.read(name, WEIGHTS)), Sources(ordered, sources.left_out)


def _why_nothing_to_train_on(sources: Sources, gated: bool) -> str:
    reasons = sorted(set(sources.left_out.values()))
    why = f"{len(sources.left_out)} items of the splits train and val are left out: {'; '.join(reasons[:3])}"
    where = "`lostwax status` says what failed or was skipped"
    where += ", artifacts/gate/metrics.json what was rejected" if gated else ""
    return f"nothing to train on: {why if reasons else 'no item is in split train'}. Add objects to the inbox; {where}"


def _json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()

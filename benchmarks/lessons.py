"""What the arms of `benchmarks.distillation` may know: items with truth, others with the teacher's shape alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.subjects import NEEDS, Subject, common_spec, read_subjects, stage_seconds, stored
from models.fields import HALF_SIDE, Field, measure
from models.fields.colours import SurfaceColours
from models.needs import FIELD, TEACHER, TOKENS, VIEWS, InHand
from models.students import Spec
from models.training.recipe import Recipe
from models.training.sampler import steps_per_epoch
from tasks.params import load_params
from tasks.stages.gate.verdict import verdict
from tasks.workspace import Workspace

log = logging.getLogger("distillation")

SHARE = 0.1
FEWEST = 4
"""Items with truth, at least."""


@dataclass(frozen=True)
class Taught:
    """What the teacher made of a training item, as a field; CPU seconds of its mesh (teach, gate) and of the field."""

    field: Field
    mesh_s: float
    field_s: float


@dataclass(frozen=True)
class Material:
    """Subjects by split, read, with everything that is known of them; `Lesson` hides what is not to be."""

    training: Sequence[Subject]
    validation: Sequence[Subject]
    test: Sequence[Subject]
    spec: Spec
    taught: Mapping[str, Taught]
    """By the training items' ids."""

    @property
    def steps_per_epoch(self) -> int:
        """Of an epoch over all items: every arm is validated after so many steps."""
        return steps_per_epoch(len(self.training), Recipe().batch_size)


@dataclass(frozen=True)
class Lesson:
    """What an arm learns from, and the seconds that the teacher took for it."""

    items: Sequence[InHand]
    teacher_s: float

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.items), Recipe().batch_size)

    def epochs_of(self, steps: float) -> int:
        """Whole epochs that come closest to so many steps."""
        return max(1, round(steps / self.steps_per_epoch))


def read_material(workspace: Workspace) -> Material:
    """Training items are those whose mesh by the teacher the gate accepts; nothing is left out of the test."""
    params = load_params(workspace.params_file)
    gate, subjects = params.stage("gate"), read_subjects(workspace)
    spec = common_spec(subjects, params)
    training = [
        subject
        for subject in subjects
        if subject.split == "train" and not verdict(stored(subject).records["gate"].quality, gate)
    ]
    used = stage_seconds(workspace)
    mesh_s = (used["teach"] + used["gate"]) / len(subjects)
    training = [subject.in_hand() for subject in training]
    validation, test = ([one.in_hand() for one in subjects if one.split == split] for split in ("val", "test"))
    log.info("%d items to learn from, %d to validate on, %d to be tested on", len(training), len(validation), len(test))
    taught = {one.item.id: taught_field(one, spec[FIELD], mesh_s) for one in training}
    return Material(training, validation, test, spec, taught)


def taught_field(subject: Subject, form: Mapping[str, Any], mesh_s: float) -> Taught:
    """The field of the teacher's mesh. form: resolution and truncation, those of the true fields."""
    mesh, started = subject.item(TEACHER), time.process_time()
    cells = form["truncation"] * form["resolution"] / (2 * HALF_SIDE)
    measured = measure(mesh, SurfaceColours.of_mesh(mesh), resolution=form["resolution"], truncation_cells=cells)
    return Taught(measured.field, mesh_s, time.process_time() - started)


def lesson_of(name: str, arm: str, material: Material, share: float, seed: int) -> Lesson:
    """What the arm may know: of items whose truth is hidden, nothing that was made of it."""
    known = ids_with_truth(material.training, share, seed)
    if arm == "without":
        return Lesson([_in_hand(one) for one in material.training if one.item.id in known], 0.0)
    items, seconds = [], 0.0
    for subject in material.training:
        taught = material.taught[subject.item.id]
        if subject.item.id in known:
            items.append(_in_hand(subject))
            seconds += taught.mesh_s if name == "mesh_deform" else 0.0  # it learns from both where there are both
        else:
            items.append(without_truth(_in_hand(subject), taught.field))
            seconds += taught.mesh_s + (taught.field_s if name == "field" else 0.0)
    return Lesson(items, seconds)


def ids_with_truth(training: Sequence[Subject], share: float, seed: int) -> set[str]:
    """The items whose truth is known: others for every seed."""
    ids = sorted(subject.item.id for subject in training)
    count = min(len(ids), max(FEWEST, round(share * len(ids))))
    return {ids[place] for place in np.random.default_rng(seed).choice(len(ids), count, replace=False)}


def without_truth(item: InHand, teachers: Field) -> InHand:
    """The item with the teacher's field in place of the true one, and without a true mesh."""
    shown = {need: item.values[need] for need in (TOKENS, VIEWS, TEACHER)}
    return InHand(item.id, {**shown, FIELD: teachers}, NEEDS)


def _in_hand(subject: Subject) -> InHand:
    assert isinstance(subject.item, InHand), "it was read"
    return subject.item

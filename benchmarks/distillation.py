"""Does a teacher pay? Students with and without one, where a tenth of the training items has truth.

    python -m benchmarks.distillation [--students mesh_deform field] [--seeds 3] [--epochs N] [--work DIR] [--json]

Generated shoes. Every training item has the teacher's mesh (`classical`), so many of them (`--share`) their truth;
which ones differs from seed to seed. Two arms:

    with       all items: the truth where it is known, and the teacher's mesh or its field
    without    the items whose truth is known, by it alone

Both are searched equally, so many candidates each, by the error on the validation items' truth (with the first seed).
They are compared at equal optimiser steps, and once more with `longer`: the arm without, trained as long as the other
took in all, its teacher's own seconds (teach, gate, and fields of the teacher's meshes) counted.

The true meshes of the test items judge. Intervals (95 %) are a bootstrap over these items, paired, of means over seeds.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lessons import SHARE, Lesson, Material, lesson_of, read_material
from benchmarks.subjects import Subject, Trained, as_mesh, prepared, score, trained
from models.metrics import Protocol, Surface
from models.metrics.intervals import ratio_interval
from models.needs import TEACHER, TRUTH
from models.student import Student
from models.students import Ask
from models.training.recipe import Recipe

log = logging.getLogger("distillation")

NUM_GENERATED = 96
EPOCHS = {"mesh_deform": 6, "field": 12}
"""Of the arm with a teacher: what the whole run has time for. A step of mesh_deform takes four times as long."""
PARAMS: Mapping[str, Mapping[str, Any]] = {"mesh_deform": {"validation_points": 2_000}, "field": {}}
"""Of all arms. A validation of 10,000 points takes as long as two steps."""
PROTOCOL = Protocol(iou_resolution=32)
ARMS = ("with", "without")
METHODS = ("with", "without", "longer", "teacher")


@dataclass(frozen=True)
class Setting:
    """A candidate of the search."""

    params: Mapping[str, Any]
    learning_rate: float

    def __str__(self) -> str:
        return ", ".join([*(f"{name} {value}" for name, value in self.params.items()), f"rate {self.learning_rate:g}"])


Candidates = Mapping[str, Mapping[str, Sequence[Setting]]]
"""By student and arm."""


def _at_rates(params: Mapping[str, Any], *rates: float) -> list[Setting]:
    return [Setting(params, rate) for rate in rates]


CANDIDATES: Candidates = {
    "mesh_deform": {
        "with": [
            *_at_rates({"alpha": "balanced"}, 2e-3, 4e-3),
            *_at_rates({"alpha": "conservative"}, 2e-3),
            *_at_rates({"alpha": "aggressive"}, 2e-3),
        ],
        "without": _at_rates({"alpha": "none"}, 1e-3, 2e-3, 4e-3, 8e-3),
    },
    "field": {
        "with": _at_rates({"teacher": True}, 2e-3, 4e-3, 8e-3),
        "without": _at_rates({"teacher": False}, 2e-3, 4e-3, 8e-3),
    },
}


@dataclass(frozen=True)
class Plan:
    """epochs: of the arm with a teacher, None for `EPOCHS`; the other takes as many steps. clock: counts the seconds of
    trainings."""

    seeds: int = 3
    epochs: int | None = None
    share: float = SHARE
    candidates: Candidates = field(default_factory=lambda: CANDIDATES)
    clock: Callable[[], float] = time.process_time


@dataclass(frozen=True)
class Run:
    """A training of one arm."""

    lesson: Lesson
    setting: Setting
    seed: int
    learned: Trained
    errors: Sequence[tuple[int, float]]
    """Step and validation error, as the training went on."""

    @property
    def student(self) -> Student:
        return self.learned.student

    @property
    def steps(self) -> int:
        return self.learned.result.num_steps

    @property
    def seconds(self) -> float:
        """Of the training and of the teacher."""
        return self.learned.seconds + self.lesson.teacher_s

    @property
    def best(self) -> tuple[float, int]:
        """The least validation error, and the step at which it was reached."""
        return min((error, step) for step, error in self.errors)

    def reaches(self, error: float) -> int | None:
        """The first step at which the validation error is no larger, or None."""
        return next((step for step, found in self.errors if found <= error), None)


Scores = Mapping[str, Mapping[str, float]]
"""Chamfer and IoU by label."""


@dataclass(frozen=True)
class Round:
    """All runs of one seed, and their scores by method."""

    runs: Mapping[str, Run]
    scores: Mapping[str, Scores]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", nargs="+", choices=tuple(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--seeds", type=int, default=Plan.seeds)
    parser.add_argument("--epochs", type=int, help=f"of the arm with a teacher; default {EPOCHS}")
    parser.add_argument("--share", type=float, default=SHARE, help="part of the training items that has truth")
    parser.add_argument("--count", type=int, default=NUM_GENERATED, help="generated objects")
    parser.add_argument("--work", type=Path, default=Path("bench-work/distillation"))
    parser.add_argument("--json", action="store_true", help="print nothing but JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING if arguments.json else logging.INFO, format="%(message)s")
    material = read_material(prepared(arguments.work.resolve(), "shoes", arguments.count))
    plan = Plan(arguments.seeds, arguments.epochs, arguments.share)
    figures = {}
    for name in arguments.students:
        figures[name] = compared(name, material, plan)
        if not arguments.json:
            show(name, figures[name])
    if arguments.json:
        print(json.dumps(figures))


def compared(name: str, material: Material, plan: Plan) -> dict[str, Any]:
    """Both arms of a student: the search, the figures on the test items and the steps that it took."""
    truths = {subject.label: Surface(subject.item(TRUTH), PROTOCOL) for subject in material.test}
    search = {arm: searched(name, arm, material, plan) for arm in ARMS}
    chosen = {arm: min(runs, key=lambda run: run.best) for arm, runs in search.items()}
    teacher = teachers_scores(material.test, truths)
    rounds = []
    for seed in range(plan.seeds):
        runs = chosen if seed == 0 else {arm: again(name, arm, material, plan, chosen[arm], seed) for arm in ARMS}
        runs = {**runs, "longer": longer(name, material, plan, runs)}
        scores = {method: scored(run.student, material.test, truths) for method, run in runs.items()}
        rounds.append(Round(runs, {**scores, "teacher": teacher}))
        log.info("%s, seed %d: %s", name, seed, {method: round(_mean(found), 4) for method, found in scores.items()})
    return {
        "search": {
            arm: [{"setting": str(run.setting), "validation": run.best[0]} for run in runs]
            for arm, runs in search.items()
        },
        **summarise(rounds),
    }


def searched(name: str, arm: str, material: Material, plan: Plan) -> list[Run]:
    """A run of every candidate with the first seed."""
    lesson = lesson_of(name, arm, material, plan.share, seed=0)
    steps = num_steps(name, material, plan)
    return [fitted(name, lesson, setting, steps, 0, material, plan) for setting in plan.candidates[name][arm]]


def again(name: str, arm: str, material: Material, plan: Plan, chosen: Run, seed: int) -> Run:
    """The chosen setting with another seed: other items have truth."""
    lesson = lesson_of(name, arm, material, plan.share, seed)
    return fitted(name, lesson, chosen.setting, num_steps(name, material, plan), seed, material, plan)


def longer(name: str, material: Material, plan: Plan, runs: Mapping[str, Run]) -> Run:
    """The arm without a teacher, trained for the seconds that the other took with its teacher's."""
    short = runs["without"]
    steps = short.steps * runs["with"].seconds / short.seconds
    return fitted(name, short.lesson, short.setting, steps, short.seed, material, plan)


def num_steps(name: str, material: Material, plan: Plan) -> int:
    """Of either arm."""
    return (plan.epochs or EPOCHS[name]) * material.steps_per_epoch


def fitted(name: str, lesson: Lesson, setting: Setting, steps: float, seed: int, material: Material, plan: Plan) -> Run:
    """A training of about so many steps."""
    recipe = Recipe(
        seed=seed,
        epochs=lesson.epochs_of(steps),
        learning_rate=setting.learning_rate,
        validate_every_epochs=lesson.epochs_of(material.steps_per_epoch),
        checkpoint_every_steps=1_000_000,
    )
    learned = trained(
        name,
        lesson.items,
        material.spec,
        recipe,
        params={**PARAMS[name], **setting.params},
        validation=[subject.item for subject in material.validation],
        clock=plan.clock,
    )
    selected = learned.result.selected
    assert selected is not None
    column = f"val_{selected.name}"
    errors = [(row["step"], row[column]) for row in learned.result.epochs if column in row]
    run = Run(lesson, setting, seed, learned, errors)
    log.info(
        "%s, %d items, %s, seed %d: %d steps in %.0f s, validation %.5f at step %d",
        *(name, len(lesson.items), setting, seed, run.steps, learned.seconds, *run.best),
    )
    return run


def scored(student: Student, test: Sequence[Subject], truths: Mapping[str, Surface]) -> Scores:
    """What a student's casts are worth."""

    def cast(subject: Subject) -> Any:
        return as_mesh(student.predict(subject.item, Ask()))

    return {subject.label: score(cast, subject, truths[subject.label]) for subject in test}


def teachers_scores(test: Sequence[Subject], truths: Mapping[str, Surface]) -> Scores:
    """What the teacher's own casts are worth."""
    return {one.label: score(lambda subject: subject.item(TEACHER), one, truths[one.label]) for one in test}


def summarise(rounds: Sequence[Round]) -> dict[str, Any]:
    """Means by method, how many times better the arm with a teacher is, and the steps to equal errors."""
    labels = sorted(rounds[0].scores["with"])

    def of(method: str, figure: str) -> list[float]:
        return [float(np.mean([one.scores[method][label][figure] for one in rounds])) for label in labels]

    with_teacher = of("with", "chamfer")
    gains = {}
    for other in ("without", "longer"):
        errors = of(other, "chamfer")
        gains[other] = {
            "ratio": float(np.mean(errors) / np.mean(with_teacher)),
            "interval_95": list(ratio_interval(errors, with_teacher, seed=0)),
            "better_on": float(np.mean(np.array(with_teacher) < np.array(errors))),
            "by_seed": [_mean(one.scores[other]) / _mean(one.scores["with"]) for one in rounds],
        }
    return {
        "num_items": len(labels),
        "num_seeds": len(rounds),
        "num_learned": {arm: len(rounds[0].runs[arm].lesson.items) for arm in ARMS},
        "chosen": {arm: str(rounds[0].runs[arm].setting) for arm in ARMS},
        "methods": {
            method: {figure: float(np.mean(of(method, figure))) for figure in ("chamfer", "iou")} for method in METHODS
        },
        "effort": {method: _effort([one.runs[method] for one in rounds]) for method in METHODS[:3]},
        "times_better_with_teacher": gains,
        "steps_to_equal_error": [_race(one.runs) for one in rounds],
        "per_item": {label: {method: of(method, "chamfer")[n] for method in METHODS} for n, label in enumerate(labels)},
        "protocol": PROTOCOL.to_json(),
    }


def _effort(runs: Sequence[Run]) -> dict[str, float]:
    """Means over seeds."""
    return {
        "steps": float(np.mean([run.steps for run in runs])),
        "steps_per_epoch": runs[0].lesson.steps_per_epoch,
        "training_s": float(np.mean([run.learned.seconds for run in runs])),
        "teacher_s": float(np.mean([run.lesson.teacher_s for run in runs])),
        "validation": float(np.mean([run.best[0] for run in runs])),
    }


def _race(runs: Mapping[str, Run]) -> dict[str, Any]:
    """The step of each arm's best validation error, and when the others came as far (None: never)."""
    found: dict[str, Any] = {}
    for method, run in runs.items():
        error, step = run.best
        reached = {other: runs[other].reaches(error) for other in runs if other != method}
        found[method] = {"best": error, "at_step": step, "reached_by": reached}
    return found


def _mean(scores: Scores) -> float:
    return float(np.mean([one["chamfer"] for one in scores.values()]))


def show(name: str, figures: Mapping[str, Any]) -> None:
    learned = figures["num_learned"]
    print(
        f"{name}: {learned['with']} items with the teacher, {learned['without']} of them with truth; "
        f"{figures['num_items']} unseen objects, {figures['num_seeds']} seeds"
    )
    for arm, candidates in figures["search"].items():
        tried = "; ".join(f"{one['setting']}: {one['validation']:.5f}" for one in candidates)
        print(f"  search {arm}: {tried}")
    for method, means in figures["methods"].items():
        line = f"  {method:8} Chamfer {means['chamfer']:.4f}  IoU {means['iou']:.3f}"
        if effort := figures["effort"].get(method):
            line += (
                f"  {effort['steps']:.0f} steps, {effort['training_s']:.0f} s and {effort['teacher_s']:.0f} s teacher"
            )
        if gain := figures["times_better_with_teacher"].get(method):
            low, high = gain["interval_95"]
            line += f"  {method} / with {gain['ratio']:.3f} [{low:.3f}, {high:.3f}]"
        print(line)
    for seed, race in enumerate(figures["steps_to_equal_error"]):
        for method, found in race.items():
            print(f"  seed {seed}, {method}: best {found['best']:.5f} at step {found['at_step']}", found["reached_by"])


if __name__ == "__main__":
    main()

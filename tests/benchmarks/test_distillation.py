"""Toy ellipsoids: the truth that is hidden is not read, and the teacher's seconds are counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from benchmarks.distillation import Plan, Setting, compared
from benchmarks.lessons import Material, Taught, ids_with_truth, lesson_of
from benchmarks.subjects import NEEDS, Subject
from models import plugins
from models.needs import FIELD, TEACHER, TRUTH, InHand
from models.training.trainable import Example
from tests.models.students import toy_ellipsoids as toy

SHARE = 1 / 3
MESH_S, FIELD_S = 0.5, 0.25
PLAN = Plan(
    seeds=1,
    epochs=1,
    share=SHARE,
    candidates={
        "mesh_deform": {"with": [Setting({}, 2e-3)], "without": [Setting({"alpha": "none"}, 2e-3)]},
        "field": {
            "with": [Setting({}, 2e-3)],
            "without": [Setting({"teacher": False}, 2e-3)],
        },
    },
)
FATTER = 1.1
WRONG = (0.5, 0.16, 0.16)


def subject(number: int, half_axes: tuple[float, float, float], split: str) -> Subject:
    known = toy.given(half_axes).values
    values = {**known, TRUTH: toy.mesh(half_axes), TEACHER: toy.mesh(fatter(half_axes))}
    return Subject(InHand(f"{split}{number}", values, NEEDS), f"{split}{number}", split, generated=True)


def fatter(half_axes: tuple[float, float, float]) -> tuple[float, float, float]:
    return half_axes[0], half_axes[1] * FATTER, half_axes[2] * FATTER


@pytest.fixture(scope="module")
def material() -> Material:
    training = toy.radii(12, seed=1)
    subjects = [subject(number, half_axes, "train") for number, half_axes in enumerate(training)]
    taught = {
        one.item.id: Taught(toy.given(fatter(half_axes)).values[FIELD], MESH_S, FIELD_S)
        for one, half_axes in zip(subjects, training, strict=True)
    }
    validation, test = (
        [subject(number, half_axes, split) for number, half_axes in enumerate(toy.radii(2, seed=seed))]
        for split, seed in (("val", 2), ("test", 3))
    )
    return Material(subjects, validation, test, toy.SPEC, taught)


def spoilt(material: Material, ids: set[str]) -> Material:
    """These training items have the truth of another object."""
    wrong = toy.given(WRONG).values[FIELD]

    def spoil(one: Subject) -> Subject:
        if one.item.id not in ids:
            return one
        assert isinstance(one.item, InHand)
        return replace(one, item=replace(one.item, values={**one.item.values, TRUTH: toy.mesh(WRONG), FIELD: wrong}))

    return replace(material, training=[spoil(one) for one in material.training])


def ticking() -> Callable[[], float]:
    """A clock by which every training takes one second."""
    return map(float, itertools.count()).__next__


def examples(name: str, arm: str, material: Material) -> list[Example]:
    """All that a training of this arm reads."""
    plugin = plugins.load("students", name)
    params = PLAN.candidates[name][arm][0].params
    student = plugin.create(plugin.Params(**params), material.spec, seed=0)
    return [student.example(item) for item in lesson_of(name, arm, material, SHARE, seed=0).items]


def are_equal(some: list[Example], others: list[Example]) -> bool:
    return len(some) == len(others) and all(
        one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
        for one, other in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("arm", ["with", "without"])
@pytest.mark.parametrize("name", ["mesh_deform", "field"])
def test_an_arm_reads_known_truth_and_no_hidden_one(material: Material, name: str, arm: str) -> None:
    known = ids_with_truth(material.training, SHARE, seed=0)
    hidden = {one.item.id for one in material.training} - known
    assert (len(known), len(hidden)) == (4, 8)
    read = examples(name, arm, material)
    assert are_equal(read, examples(name, arm, spoilt(material, hidden)))
    assert not are_equal(read, examples(name, arm, spoilt(material, known)))


@pytest.mark.parametrize(("name", "teacher_s"), [("mesh_deform", 12 * MESH_S), ("field", 8 * (MESH_S + FIELD_S))])
def test_the_teacher_costs_what_the_student_learns_from(material: Material, name: str, teacher_s: float) -> None:
    lessons = {arm: lesson_of(name, arm, material, SHARE, seed=0) for arm in ("with", "without")}
    assert {arm: len(lesson.items) for arm, lesson in lessons.items()} == {"with": 12, "without": 4}
    assert {arm: lesson.teacher_s for arm, lesson in lessons.items()} == {"with": teacher_s, "without": 0}


def test_results_do_not_depend_on_hidden_truth_and_the_teachers_seconds_go_to_the_arm_without_one(
    material: Material,
) -> None:
    figures = compared("field", material, replace(PLAN, clock=ticking()))
    hidden = {one.item.id for one in material.training} - ids_with_truth(material.training, SHARE, seed=0)
    assert compared("field", spoilt(material, hidden), replace(PLAN, clock=ticking())) == figures
    effort = figures["effort"]
    assert effort["with"]["steps"] == effort["without"]["steps"] == 2
    assert effort["with"]["teacher_s"] == 8 * (MESH_S + FIELD_S)
    assert effort["longer"]["steps"] == 2 * (1 + 8 * (MESH_S + FIELD_S))

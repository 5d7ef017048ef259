"""Toy ellipsoids: the truth that is hidden is not read, and the teacher's seconds are counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.distillation import Material, Plan, Setting, Taught, compared, ids_with_truth, lesson_of
from benchmarks.subjects import NEEDS, Subject
from models.needs import FIELD, TEACHER, TRUTH, InHand
from tests.models.students import toy_ellipsoids as toy

SHARE = 1 / 3
MESH_S, FIELD_S = 2.0, 1.0
PLAN = Plan(
    seeds=1,
    epochs=1,
    share=SHARE,
    candidates={
        "mesh_deform": {"with": [Setting({}, 2e-3)], "without": [Setting({"alpha": "none"}, 2e-3)]},
        "field": {
            "with": [Setting({}, 2e-3)],
            "without": [Setting({"teacher": False}, 2e-3), Setting({"teacher": False}, 4e-3)],
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


def spoilt(material: Material, known: set[str]) -> Material:
    """All truth that is hidden is another object's."""
    wrong = toy.given(WRONG).values[FIELD]

    def spoil(one: Subject) -> Subject:
        if one.item.id in known:
            return one
        assert isinstance(one.item, InHand)
        return replace(one, item=replace(one.item, values={**one.item.values, TRUTH: toy.mesh(WRONG), FIELD: wrong}))

    return replace(material, training=[spoil(one) for one in material.training])


def ticking() -> Callable[[], float]:
    """A clock by which every training takes one second."""
    return map(float, itertools.count()).__next__


@pytest.mark.parametrize("name", ["mesh_deform", "field"])
def test_hidden_truth_is_not_read_and_known_truth_is(material: Material, name: str) -> None:
    known = ids_with_truth(material.training, SHARE, seed=0)
    assert len(known) == 4
    everything = {one.item.id for one in material.training}
    plan = replace(PLAN, clock=ticking())
    figures = compared(name, material, plan)
    assert compared(name, spoilt(material, known), replace(PLAN, clock=ticking())) == figures
    other = compared(name, spoilt(material, everything - known), replace(PLAN, clock=ticking()))
    for method in ("with", "without", "longer"):
        assert other["methods"][method] != figures["methods"][method]


@pytest.mark.parametrize(("name", "teacher_s"), [("mesh_deform", 12 * MESH_S), ("field", 8 * (MESH_S + FIELD_S))])
def test_the_teachers_seconds_are_given_to_the_arm_without_one(material: Material, name: str, teacher_s: float) -> None:
    lessons = {arm: lesson_of(name, arm, material, PLAN, seed=0) for arm in ("with", "without")}
    assert len(lessons["with"].items), len(lessons["without"].items) == (12, 4)
    assert lessons["with"].teacher_s == teacher_s and lessons["without"].teacher_s == 0
    effort = compared(name, material, replace(PLAN, clock=ticking()))["effort"]
    assert effort["with"]["teacher_s"] == teacher_s
    assert effort["with"]["steps"] == effort["without"]["steps"] == 2
    assert effort["longer"]["steps"] == 2 * (1 + teacher_s)

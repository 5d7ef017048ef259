"""What is compared: the students that params name, the teacher, and what a sceptic asks for. One record an item and
method, so that a new student or baseline computes nothing of the others."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tasks.stages.students import MAIN, choices

if TYPE_CHECKING:
    from tasks.stages.evaluate import EvaluateParams

STUDENT, TEACHER, FLOOR = "student", "teacher", "floor"
"""The main student; the teacher; the truth against itself, sampled twice: the best that can be measured."""


def student_methods(params: Any) -> dict[str, str]:
    """The id of each student in train, by the name of its method: the main one's is `student`, a variant's its own."""
    return {STUDENT if one.id == MAIN else one.id: one.id for one in choices(params)}


def all_methods(params: Any) -> list[str]:
    """In the order in which they are computed and shown."""
    block: EvaluateParams = params.stage("evaluate")
    return [*student_methods(params), TEACHER, FLOOR, *block.baselines]


def record_id(item_id: str, method: str) -> str:
    """Id of the record of an item and a method: that of the item, and five hex of the digest of the method's name."""
    return f"{item_id}-{hashlib.sha256(method.encode()).hexdigest()[:5]}"

"""What a cast is measured against: the truth of an item, or what stands in for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.metrics import Surface
    from models.views import Views


@dataclass(frozen=True)
class Exam:
    """truth: the true surface under its protocol. Without one: teacher, what the teacher made of the item, and unseen,
    views of known cameras that no method was given. Each may be absent."""

    truth: Surface | None = None
    teacher: Surface | None = None
    unseen: Views | None = None

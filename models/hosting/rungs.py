"""The `ladder` of a hosted teacher's block is checked when the block is read, not when memory first runs out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from models.params import Block


def check_rungs(rungs: Sequence[Mapping[str, Any]], block: type[Block], per_item: Collection[str]) -> None:
    """Raises ValueError for a rung with a field that the teacher does not read for each item, or with a bad value."""
    for number, rung in enumerate(rungs, 1):
        if strange := sorted(set(rung) - set(per_item)):
            raise ValueError(f"rung {number} has {', '.join(strange)}; it may change: {', '.join(sorted(per_item))}")
        block.model_validate(dict(rung))

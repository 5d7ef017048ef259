"""Objects that lack something against their files: mostly textures that are not there."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.collections.records import Record
from tasks.engine.outcome import counted
from tasks.engine.stage import Json

FACT = "left_out"
"""The fact of a mesh's record that holds it, in words."""
MOST_OBJECTS = 20
"""Objects that metrics.json names."""


class Incomplete:
    """Counts them as records pass by."""

    def __init__(self) -> None:
        self._count = 0
        self._first: dict[str, list[str]] = {}

    def add(self, record: Record) -> None:
        """Take note of a record."""
        if words := record.facts.get(FACT):
            self._count += 1
            if len(self._first) < MOST_OBJECTS:
                self._first[str(record.facts["label"])] = list(words)

    def to_json(self) -> dict[str, Json]:
        """For metrics.json: how many, and what the first of them lack."""
        return {"num_objects": self._count, "first": dict(sorted(self._first.items()))}


def notices(lacking: Mapping[str, Json]) -> list[str]:
    """What people should know of it."""
    count = int(lacking.get("num_objects", 0))
    if not count:
        return []
    named = [f"{label}: {'; '.join(words)}" for label, words in lacking["first"].items()]
    names = ", ".join(named[:2]) + (f" and {count - 2} more" if count > 2 else "")
    return [f"{counted(count, 'object')} without something that their files name ({names})"]

"""The records of evaluate, an item at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tasks.collections.records import Record
from tasks.engine.stage import Json
from tasks.stages.evaluate.methods import FLOOR


@dataclass(frozen=True)
class Evaluated:
    """An item: its records by method. A method that did not apply has none, or one without figures."""

    id: str
    records: Mapping[str, Record]

    @property
    def quality(self) -> dict[str, Mapping[str, float]]:
        """Figures by method."""
        return {name: record.quality for name, record in self.records.items() if name != FLOOR and record.quality}

    @property
    def floor(self) -> Mapping[str, float]:
        """Of the truth against itself; nothing without truth."""
        return self.records[FLOOR].quality if FLOOR in self.records else {}

    @property
    def label_class(self) -> str:
        return str(self._fact("class"))

    @property
    def basis(self) -> str:
        """truth or proxy."""
        return str(self._fact("basis"))

    def _fact(self, name: str) -> Json:
        return next(iter(self.records.values())).facts[name]


def by_item(records: Iterable[Record]) -> dict[str, Evaluated]:
    """Evaluated items by id, in order."""
    found: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in records:
        found[record.facts["item"]][record.facts["method"]] = record
    return {item_id: Evaluated(item_id, found[item_id]) for item_id in sorted(found)}

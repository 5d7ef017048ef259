"""What students, teachers and evaluation may need of an item, and which stage holds it: from the stages' `offers`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from models.needs import InHand, Need, refuse_undeclared
from tasks.collections.records import Record
from tasks.engine.stage import Inputs, ItemFiles, Json, Offer, Upstream
from tasks.order import ORDER, load_stage

T = TypeVar("T")
Records = Mapping[str, Record]
"""An item's records by stage."""


BEFORE_TRAIN = ORDER[: ORDER.index("train")]
"""Where what is learned from is made."""


@functools.cache
def _offers() -> dict[str, tuple[str, Offer[Any]]]:
    """(stage, offer) by the need's name."""
    return {offer.need.name: (name, offer) for name in BEFORE_TRAIN for offer in load_stage(name).offers}


def stages_of(needs: Iterable[Need[Any]]) -> list[str]:
    """The stages that hold these, in order, each once."""
    names = {find(need)[0] for need in needs}
    return [name for name in BEFORE_TRAIN if name in names]


def all_stages() -> tuple[str, ...]:
    """Every stage that holds something, in order."""
    return tuple(name for name in BEFORE_TRAIN if load_stage(name).offers)


def find(need: Need[Any]) -> tuple[str, Offer[Any]]:
    """The stage that holds it, and how. Raises ValueError naming what there is."""
    offers = _offers()
    if need.name not in offers:
        raise ValueError(f"no stage offers {need.name!r}; there are: {', '.join(sorted(offers))}")
    return offers[need.name]


def files_of(need: Need[Any], records: Records, params: Any) -> list[tuple[str, str]]:
    """(stage, name) of the files that it is read from; none where the item has none."""
    stage, offer = find(need)
    record = records.get(stage)
    return [] if record is None else [(stage, name) for name in offer.files(record, params)]


def lacks(needs: Iterable[Need[Any]], records: Records, params: Any) -> str | None:
    """Why an item does not qualify: the first of these that it does not have."""
    for need in needs:
        if not files_of(need, records, params):
            return f"it has no {need.what}"
    return None


def inputs_of(needs: Iterable[Need[Any]], records: Records, params: Any, prefix: str = "") -> Inputs:
    """What enters a key: digests of the files read, and the facts that decide how."""
    inputs: dict[str, str] = {}
    for need in needs:
        stage, offer = find(need)
        for _, name in files_of(need, records, params):
            inputs[f"{stage}/{prefix}{name}"] = records[stage].files[name].sha256
            for fact in offer.facts:
                inputs[f"{stage}/{prefix}{fact}"] = str(records[stage].facts.get(fact))
    return tuple(sorted(inputs.items()))


def form_of(need: Need[Any], items: Sequence[Records], params: Any) -> Json | None:
    """What the items that have it have in common; None where none has. Raises ValueError where they differ."""
    stage, offer = find(need)
    forms = [offer.form(records[stage], params) for records in items if files_of(need, records, params)]
    return offer.join(forms, params) if forms else None


@dataclass(frozen=True)
class StoredItem:
    """A `Given` (models/needs.py) whose files lie in collections: read when asked for, checked by their digests."""

    id: str
    records: Records
    declared: tuple[Need[Any], ...]
    params: Any = field(repr=False)
    read: Callable[[str, Record, str], bytes] = field(repr=False)
    """Bytes of a file: stage, record, name."""

    def __call__(self, need: Need[T]) -> T:
        found = self.get(need)
        if found is None:
            raise LookupError(f"item {self.id} has no {need.what}")
        return found

    def in_hand(self) -> InHand:
        """Everything that was declared, read now."""
        return InHand(self.id, {need: self.get(need) for need in self.declared}, self.declared)

    def get(self, need: Need[T]) -> T | None:
        refuse_undeclared(need, self.declared)
        names = [name for _, name in files_of(need, self.records, self.params)]
        if not names:
            return None
        stage, offer = find(need)
        record = self.records[stage]
        found: T = offer.read(ItemFiles(record, names, lambda name: self.read(stage, record, name)))
        return found


def reader(upstreams: Mapping[str, Upstream]) -> Callable[[str, Record, str], bytes]:
    """Reads from collections."""
    return lambda stage, record, name: upstreams[stage].read(record.id, name)


def records_of(item_id: str, upstreams: Mapping[str, Upstream]) -> dict[str, Record]:
    """The item's records in these collections."""
    return {name: record for name, upstream in upstreams.items() if (record := upstream.records.get(item_id))}

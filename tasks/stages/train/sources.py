"""The items that a student is trained and validated on: those that have what it needs, and that the gate accepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.needs import TRUTH, Needs
from models.students import Spec
from tasks.collections.records import Record
from tasks.engine.stage import Upstream
from tasks.stages import catalog
from tasks.stages.catalog import StoredItem
from tasks.stages.gate.verdict import GateParams, verdict
from tasks.stages.students import digest


@dataclass(frozen=True)
class Source:
    """An item to train or validate on, with its records by stage."""

    id: str
    records: Mapping[str, Record]

    @property
    def split(self) -> str:
        return str(self.records["ingest"].facts["split"])

    @property
    def has_truth(self) -> bool:
        return catalog.lacks((TRUTH,), self.records, None) is None

    @property
    def is_reduced(self) -> bool:
        """Whether its teacher ran at reduced quality."""
        return "teach" in self.records and self.records["teach"].rung > 0

    def inputs(self, needs: Needs, params: Any) -> list[tuple[str, str]]:
        """What enters the key of it: the files read, and the facts that decide how they are used."""
        read = catalog.inputs_of(needs.all, self.records, params, prefix=f"{self.id}/")
        return [*read, (f"facts/{self.id}", digest([self.split, self.has_truth]))]

    def given(self, needs: Needs, params: Any, upstreams: Mapping[str, Upstream]) -> StoredItem:
        """Its things, to be read while the student is trained."""
        return StoredItem(self.id, self.records, needs.all, params, catalog.reader(upstreams))


@dataclass(frozen=True)
class Sources:
    """chosen: by id. left_out: why an item of the same splits is not among them, by id."""

    chosen: Sequence[Source]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def spec(self, needs: Needs, params: Any) -> Spec:
        """What the items have in common. Raises ValueError where they do not go together."""
        records = [source.records for source in self.chosen]
        forms = {need.name: catalog.form_of(need, records, params) for need in needs.all}
        return Spec({name: form for name, form in forms.items() if form is not None})

    def split(self, name: str) -> list[Source]:
        return [source for source in self.chosen if source.split == name]


def find_sources(
    needs: Needs, upstreams: Mapping[str, Upstream], splits: Iterable[str], gate: GateParams | None, params: Any
) -> Sources:
    """gate: its limits; None takes what it rejects or has not measured, too (a test set must not be made easier)."""
    wanted, chosen, left_out = set(splits), [], {}
    for item_id, ingested in sorted(upstreams["ingest"].records.items()):
        if ingested.facts["split"] not in wanted:
            continue
        records = catalog.records_of(item_id, upstreams)
        if reason := catalog.lacks(needs.required, records, params) or _rejected(records, gate):
            left_out[item_id] = reason
        else:
            chosen.append(Source(item_id, records))
    return Sources(chosen, left_out)


def _rejected(records: Mapping[str, Record], gate: GateParams | None) -> str | None:
    if gate is None:
        return None
    if "gate" not in records:
        return "the gate has not measured it"
    return "rejected by the gate" if verdict(records["gate"].quality, gate) else None

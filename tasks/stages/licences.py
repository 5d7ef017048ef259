"""On what terms what: the facts of records that hold licences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from models.needs import DEPTH, Needs
from tasks.collections.records import Record
from tasks.stages import catalog

LICENCES = (
    ("ingest", "source", "licence"),
    ("matte", "matte", "licence"),
    ("features", "encoder", "encoder_licence"),
    ("features", "depth", "depth_licence"),
    ("teach", "teacher", "licence"),
)
"""(stage, fact that names the thing, fact that holds its licence)."""


def learned_from(needs: Needs, items: Iterable[Mapping[str, Record]]) -> list[str]:
    """`encoder dct: none` of all that a student with these needs learned from, sorted. items: records by stage."""
    read = {"ingest", "matte", *catalog.stages_of(needs.all)}
    found: set[str] = set()
    for records in items:
        for stage, thing, licence in LICENCES:
            facts = records[stage].facts if stage in records else {}
            is_used = stage in _stages_behind(read, records) and (thing != "depth" or DEPTH in needs.all)
            if is_used and facts.get(licence):
                found.add(f"{thing} {facts[thing]}: {facts[licence]}")
    return sorted(found)


def _stages_behind(read: Set[str], records: Mapping[str, Record]) -> Set[str]:
    """With the teacher where a field is that of its shape."""
    field = records.get("fields") if "fields" in read else None
    return read | {"teach"} if field and field.facts["shape"] == "teacher" else read

"""A record as one line of JSON: id and key first, then sorted names, no spaces; equal facts are equal bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1
Json = Any


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an item: its sha256 (64 hex) and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """The reproducible facts of one finished item: no time, no place, no attempt."""

    id: str
    key: str
    files: Mapping[str, FileEntry]
    frame: str | None = None
    quality: Mapping[str, Json] = field(default_factory=dict)
    rung: int = 0
    facts: Mapping[str, Json] = field(default_factory=dict)
    """What later stages look up: ingest keeps label, class, group, split, labels, licence, kind here."""
    recipe: str = ""
    """First 16 hex of the digest of the params, versions and weights in the key; `explain` compares recipes."""


def canonical(value: Any) -> bytes:
    """Canonical JSON bytes. NaN and infinity are refused: no reader agrees on them."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def to_line(record: Record) -> bytes:
    """One line, newline included."""
    files = {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in record.files.items()}
    rest = {
        "schema": SCHEMA,
        "recipe": record.recipe,
        "files": files,
        "frame": record.frame,
        "quality": record.quality,
        "rung": record.rung,
        "facts": record.facts,
    }
    return b'{"id":"%s","key":"%s",%s\n' % (record.id.encode(), record.key.encode(), canonical(rest)[1:])


def from_line(line: bytes) -> Record:
    """The inverse of to_line. Raises ValueError for anything that is not a record of this schema."""
    value = json.loads(line)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise ValueError(f"not a record of schema {SCHEMA}: {line[:80]!r}")
    try:
        files = {name: FileEntry(entry["sha256"], entry["size"]) for name, entry in value["files"].items()}
        return Record(
            value["id"],
            value["key"],
            files,
            value["frame"],
            value["quality"],
            value["rung"],
            value["facts"],
            value["recipe"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a whole record: {line[:80]!r}") from error


def identity(line: bytes) -> tuple[str, str]:
    """(id, key) of a record's line without parsing the rest: they always come first."""
    parts = line.split(b'"', 8)
    if parts[1:6:4] != [b"id", b"key"]:
        raise ValueError(f"not a record: {line[:80]!r}")
    return parts[3].decode(), parts[7].decode()


def is_better(line: bytes, other: bytes) -> bool:
    """Whether one record of an item takes the place of another of the same key: it was made at a better rung."""
    return line != other and from_line(line).rung < from_line(other).rung


class RecordLines(Mapping[str, Record]):
    """Records by id, kept as their lines and parsed when asked for: a hundred thousand fit in some 80 MB."""

    def __init__(self, lines: Mapping[str, bytes]) -> None:
        self.lines = lines

    def __getitem__(self, item_id: str) -> Record:
        return from_line(self.lines[item_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self.lines


def read_items(path: Path) -> RecordLines:
    """The published records of a collection; none where the file is absent."""
    lines: dict[str, bytes] = {}
    if path.is_file():
        with path.open("rb") as file:
            for line in file:
                lines[identity(line)[0]] = line
    return RecordLines(lines)

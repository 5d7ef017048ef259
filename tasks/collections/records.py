"""A record as one line of JSON: id and key first, then sorted names, no spaces; equal facts are equal bytes."""

from __future__ import annotations

import json
import os
import weakref
from abc import abstractmethod
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Set, ValuesView
from pathlib import Path
from typing import Any, NamedTuple

import orjson

SCHEMA = 1
WINDOW_BYTES = 16 << 10
BLOCK_BYTES = 1 << 20
ID = b'{"id":"'
"""How every line begins."""
MAX_STEPS = 32
"""Lines that are passed over one by one before a line is searched for."""
Json = Any
NOTHING: Mapping[str, Json] = {}


class FileEntry(NamedTuple):
    """One file of an item: its sha256 (64 hex) and size in bytes."""

    sha256: str
    size: int


class Record(NamedTuple):
    """The reproducible facts of one finished item: no time, no path, no attempt."""

    id: str
    key: str
    files: Mapping[str, FileEntry]
    frame: str | None = None
    quality: Mapping[str, Json] = NOTHING
    rung: int = 0
    facts: Mapping[str, Json] = NOTHING
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
    value = orjson.loads(line)
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
    """Whether one record of an item supersedes another of the same key: it was made at a better rung."""
    return line != other and from_line(line).rung < from_line(other).rung


class RecordLines(Mapping[str, Record]):
    """Records by id, in the order of their ids: kept as lines, and parsed when they are asked for."""

    @abstractmethod
    def lines(self) -> Iterator[bytes]:
        """All lines, in the order of their ids."""

    @abstractmethod
    def line(self, item_id: str) -> bytes | None:
        """The line of an item."""

    def __getitem__(self, item_id: str) -> Record:
        line = self.line(item_id)
        if line is None:
            raise KeyError(item_id)
        return from_line(line)

    def __iter__(self) -> Iterator[str]:
        return (identity(line)[0] for line in self.lines())

    def __len__(self) -> int:
        return sum(1 for _ in self.lines())

    def __contains__(self, item_id: object) -> bool:
        return isinstance(item_id, str) and self.line(item_id) is not None

    def items(self) -> ItemsView[str, Record]:
        return _Items(self)

    def values(self) -> ValuesView[Record]:
        return _Values(self)


class _Items(ItemsView[str, Record]):
    """Read in one pass, not by a search for each."""

    _mapping: RecordLines

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        return ((record.id, record) for record in map(from_line, self._mapping.lines()))


class _Values(ValuesView[Record]):
    _mapping: RecordLines

    def __iter__(self) -> Iterator[Record]:
        return map(from_line, self._mapping.lines())


class DamagedList(ValueError):
    """An items.jsonl that is no list of records sorted by id. The message says what to do."""

    def __init__(self, path: Path, offset: int) -> None:
        stage = path.parent.name
        super().__init__(
            f"{path} is damaged at byte {offset}; `lostwax run --until {stage}` writes it anew from its shards, "
            "or get it with `dvc checkout`"
        )


class PublishedLines(RecordLines):
    """The records of an items.jsonl, read from the file as they are asked for: nothing of them stays in memory.

    Whoever asks in the order of the ids reads the file once from end to end; any other item is found by bisection. The
    file stays open, so that a list which is published meanwhile does not mix with this one.
    """

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._window = (0, b"")
        """What was read last: an offset and the bytes from there on."""
        self._last = (0, "", b"")
        """The end of the line found last, its id and itself. Replaced whole, because several threads may ask."""

    def lines(self) -> Iterator[bytes]:
        before, offset, begin = b"", 0, len(ID)
        for line in self._all_lines():
            item_id = line[begin : line.find(b'"', begin)]
            if item_id <= before or not line.startswith(ID):
                raise DamagedList(self._path, offset)
            yield line
            before = item_id
            offset += len(line)

    def line(self, item_id: str) -> bytes | None:
        offset, before, found = self._last
        if found and item_id == before:
            return found
        for _ in range(MAX_STEPS if before < item_id else 0):
            line = self._line_at(offset)
            passed = self._id(line, offset) if line else ""
            if not line or passed > item_id:
                return None
            offset += len(line)
            self._last = (offset, passed, line)
            if passed == item_id:
                return line
        return self._search(item_id)

    def __len__(self) -> int:
        """The number of lines, without a look into them."""
        return sum(1 for _ in self._all_lines())

    def _all_lines(self) -> Iterator[bytes]:
        offset, rest = 0, b""
        while block := os.pread(self._descriptor, BLOCK_BYTES, offset):
            offset += len(block)
            lines = (rest + block).splitlines(keepends=True)
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            yield from lines
        if rest:
            raise DamagedList(self._path, offset - len(rest))

    def _search(self, item_id: str) -> bytes | None:
        low, high = 0, os.fstat(self._descriptor).st_size
        while low < high:  # the first line whose id is not smaller begins from low to high
            begin = self._begin_of_line((low + high) // 2, low)
            line = self._line_at(begin)
            if self._id(line, begin) < item_id:
                low = begin + len(line)
            else:
                high = begin
        line = self._line_at(low)
        if not line or self._id(line, low) != item_id:
            return None
        self._last = (low + len(line), item_id, line)
        return line

    def _begin_of_line(self, offset: int, least: int) -> int:
        """Where the line begins that `offset` lies in; `least` is the begin of one before it."""
        size = WINDOW_BYTES
        while True:
            at = max(least, offset - size)
            end = os.pread(self._descriptor, offset - at, at).rfind(b"\n")
            if end >= 0 or at == least:
                return at + end + 1
            size *= 4

    def _line_at(self, offset: int) -> bytes:
        """The line that begins there; empty at the end of the file."""
        begin, window = self._window
        if begin <= offset and (end := window.find(b"\n", offset - begin)) >= 0:
            return window[offset - begin : end + 1]
        size = WINDOW_BYTES
        while True:
            window = os.pread(self._descriptor, size, offset)
            if (end := window.find(b"\n")) >= 0:
                self._window = (offset, window)
                return window[: end + 1]
            if len(window) < size:
                if window:
                    raise DamagedList(self._path, offset)
                return b""
            size *= 4

    def _id(self, line: bytes, offset: int) -> str:
        try:
            return identity(line)[0]
        except ValueError as error:
            raise DamagedList(self._path, offset) from error


class KeptLines(RecordLines):
    """A few records, kept in memory."""

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self._lines = {identity(line)[0]: line for line in lines}

    def lines(self) -> Iterator[bytes]:
        return (self._lines[item_id] for item_id in sorted(self._lines))

    def line(self, item_id: str) -> bytes | None:
        return self._lines.get(item_id)


class WithoutItems(RecordLines):
    """Records without some of them."""

    def __init__(self, records: RecordLines, left_out: Set[str]) -> None:
        self._records, self._left_out = records, left_out

    def lines(self) -> Iterator[bytes]:
        return (line for line in self._records.lines() if identity(line)[0] not in self._left_out)

    def line(self, item_id: str) -> bytes | None:
        return None if item_id in self._left_out else self._records.line(item_id)


def read_items(path: Path) -> RecordLines:
    """The published records of a collection; none where the file is absent."""
    try:
        return PublishedLines(path)
    except FileNotFoundError:
        return KeptLines()

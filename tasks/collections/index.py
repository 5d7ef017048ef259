"""The finished items of a stage: those of every shard, found by (id, key) without reading the shards.

A shard's index is .lostwax/STAGE/SHA16.idx: a line an item, `OFFSET RECORD`, and a last one that checks them. It is
made again from the shard at need.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from tasks.collections.files import write_atomically
from tasks.collections.records import Record, RecordLines, from_line, identity, is_better
from tasks.collections.tarball import member_offset, scan

log = logging.getLogger(__name__)

CHECK_BYTES = 17
KEY_BYTES = 32
"""What is kept of a key in memory: 128 bits of a sha256 in hexadecimal digits."""
NO_ROW = -1
MAX_OPEN_FILES = 200
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}
"""What somebody who only reads may meet when an index is to be kept."""
ROW = re.compile(rb'\d+ \{"id":"([^"]+)","key":"([^"]+)"[^\n]*\n')


class DamagedShard(Exception):
    """A shard is gone, or its bytes are not what a record promises."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path


def write_index(local: Path, shard: str, rows: Iterable[tuple[int, bytes]]) -> None:
    """rows: (offset, record line) of every item in the shard."""
    local.mkdir(parents=True, exist_ok=True)
    body = _body(rows)
    write_atomically(local / f"{shard}.idx", body + _check(body))


@dataclass(frozen=True, slots=True)
class _Source:
    """A shard's index, where rows are read from; its body is kept where there is no file of it."""

    shard: str
    body: bytes | None


class Finished:
    """The finished items of one stage on this machine: id + key -> (shard, offset, record line).

    There may be millions of them, so each is a row of numbers, which say where its line lies in its shard's index; the
    rows of one id are chained. Of an item that was made again at a better rung of its ladder, the better one counts.
    """

    def __init__(
        self,
        local: Path,
        shards: Path,
        digest: Callable[[Path], str] | None,
        *,
        holding: bool = False,
        restore: Callable[[Path], bool] = lambda _: False,
    ) -> None:
        """digest: sha256 of a file through the stat cache, so that an unchanged shard is not read again; None trusts
        the shards (a worker's: the planner has checked them). holding: this process holds the collection, and may set
        damaged shards aside. restore: replaces a damaged shard by an intact copy; False where there is none.
        """
        self._local = local
        self._shards = shards
        self._digest = digest
        self._holding = holding
        self._restore = restore
        self._loaded: dict[str, int] = {}
        self._sources: list[_Source] = []
        self._last_row: dict[str, int] = {}
        """By id, the row that was added last. `_previous` leads from a row to the one before it of the same id."""
        self._previous, self._source = array("q"), array("I")
        self._begin, self._size = array("Q"), array("I")
        self._ids: list[str] = []
        self._keys = bytearray()
        self._files: dict[int, FileIO] = {}
        self._reading = threading.Lock()

    def refresh(self) -> bool:
        """Take in new shards, forget those that are gone. Of a damaged one the whole items count.

        True when a damaged shard was set aside: its items wait in a spool, to be recovered. Rows that are known by
        number can be read as long as the indexes last.
        """
        names = {path.stem for path in self._shards.glob("*.tar")} if self._shards.is_dir() else set()
        if self._loaded.keys() - names:
            self._last_row.clear()
            self._loaded.clear()
        set_aside = False
        for name in sorted(names - self._loaded.keys()):
            shard = self._shards / f"{name}.tar"
            if self._is_intact(shard):
                self._load(name, self._index(name))
                continue
            log.warning("%s is damaged: its bytes are not those of its name", shard)
            if not self._holding:
                self._load(name, _body(self._scan(name)))
            elif self._restore(shard):
                self._load(name, self._index(name))
            else:
                self._set_aside(name)
                set_aside = True
        return set_aside

    def row(self, item_id: str, key: str) -> int | None:
        """The number of an item's row, None where the item is not finished under this key."""
        row = self._row(item_id, _short(key.encode()))
        return None if row == NO_ROW else row

    def id_of(self, row: int) -> str:
        """The item's id; always the same string object."""
        return self._ids[row]

    def line_of(self, row: int) -> bytes:
        """The record's line."""
        return self._read(row).partition(b" ")[2]

    def line(self, item_id: str, key: str) -> bytes | None:
        """The record's line, or None where the item is not finished under this key."""
        row = self.row(item_id, key)
        return None if row is None else self.line_of(row)

    def location(self, item_id: str, key: str) -> tuple[str, int] | None:
        """(shard, offset) of a finished item."""
        row = self.row(item_id, key)
        return (
            None if row is None else (self._sources[self._source[row]].shard, int(self._read(row).partition(b" ")[0]))
        )

    def lines(self) -> Iterator[bytes]:
        """Records of all finished items, superseded ones included."""
        for row in self._last_row.values():
            while row != NO_ROW:
                yield self.line_of(row)
                row = self._previous[row]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(id, key) of all finished items, superseded ones included."""
        return map(identity, self.lines())

    def ids(self) -> Set[str]:
        """Ids of all finished items, superseded ones included."""
        return self._last_row.keys()

    def __len__(self) -> int:
        return sum(1 for _ in self.lines())

    def size_of(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Bytes of the files of these items."""
        lines = [line for pair in pairs if (line := self.line(*pair))]
        return sum(entry.size for line in lines for entry in from_line(line).files.values())

    def shard_sizes(self) -> dict[str, int]:
        """Number of finished items by shard."""
        return dict(self._loaded)

    def _is_intact(self, shard: Path) -> bool:
        return self._digest is None or self._digest(shard)[:16] == shard.stem

    def _load(self, name: str, body: bytes) -> None:
        """Add the rows of a shard, given the body of its index."""
        index = self._local / f"{name}.idx"
        number, known = len(self._sources), self._last_row
        self._sources.append(_Source(name, None if index.is_file() else body))
        num_rows = 0
        for found in ROW.finditer(body):
            num_rows += 1
            id_bytes, key = found.groups()
            item_id, (begin, end) = id_bytes.decode(), found.span()
            row = self._row(item_id, _short(key)) if item_id in known else NO_ROW
            if row == NO_ROW:
                self._add_row(item_id, _short(key), number, begin, end - begin)
            elif is_better(found[0].partition(b" ")[2], self.line_of(row)):
                self._source[row], self._begin[row], self._size[row] = number, begin, end - begin
        self._loaded[name] = num_rows

    def _add_row(self, item_id: str, key: bytes, source: int, begin: int, size: int) -> None:
        before = self._last_row.get(item_id, NO_ROW)
        self._last_row[item_id] = len(self._ids)
        self._ids.append(item_id if before == NO_ROW else self._ids[before])
        self._previous.append(before)
        self._keys += key
        self._source.append(source)
        self._begin.append(begin)
        self._size.append(size)

    def _row(self, item_id: str, key: bytes) -> int:
        """NO_ROW where the item is not finished under this key."""
        row = self._last_row.get(item_id, NO_ROW)
        while row != NO_ROW and not self._keys.startswith(key, row * KEY_BYTES):
            row = self._previous[row]
        return row

    def _read(self, row: int) -> bytes:
        """`OFFSET RECORD` of a row."""
        number, begin, size = self._source[row], self._begin[row], self._size[row]
        source = self._sources[number]
        if source.body is not None:
            return source.body[begin : begin + size]
        with self._reading:
            if number not in self._files:
                if len(self._files) >= MAX_OPEN_FILES:
                    self._files.clear()
                self._files[number] = FileIO(self._local / f"{source.shard}.idx")
            return os.pread(self._files[number].fileno(), size, begin)

    def _index(self, name: str) -> bytes:
        """The body of a shard's index, which is made where it is missing or unreadable."""
        path = self._local / f"{name}.idx"
        try:
            return _read_index(path)
        except FileNotFoundError:
            pass
        except ValueError:
            log.warning("%s is damaged, and is made again from its shard", path)
        rows = self._scan(name)
        try:
            write_index(self._local, name, rows)
        except OSError as error:
            if self._holding or error.errno not in NOT_WRITABLE:
                raise
        return _body(rows)

    def _scan(self, name: str) -> list[tuple[int, bytes]]:
        descriptor = os.open(self._shards / f"{name}.tar", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return [(segment.offset, segment.line) for segment in scan(descriptor, verify=True)]
        finally:
            os.close(descriptor)

    def _set_aside(self, name: str) -> None:
        """Copy the whole items of a damaged shard to a spool, from which they are recovered, and remove the shard.

        Its own bytes are not touched: DVC's cache may be the same inode. Nothing but the index vouches for a record.
        """
        shard, index = self._shards / f"{name}.tar", self._local / f"{name}.idx"
        try:
            known = {row.partition(b" ")[2] for row in _read_index(index).splitlines(keepends=True)}
        except (FileNotFoundError, ValueError):
            known = None
        descriptor = os.open(shard, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with (self._local / f"spool-damaged-{name}.tar").open("wb") as spool:
                for segment in scan(descriptor, verify=True):
                    if known is None or segment.line in known:
                        spool.write(os.pread(descriptor, segment.size, segment.offset))
        finally:
            os.close(descriptor)
        shard.unlink()
        index.unlink(missing_ok=True)


def _read_index(path: Path) -> bytes:
    """The body of an index. Raises FileNotFoundError, and ValueError for a damaged one."""
    data = path.read_bytes()
    body = data[:-CHECK_BYTES]
    if data[-CHECK_BYTES:] != _check(body):
        raise ValueError(f"{path} is damaged")
    return body


def _body(rows: Iterable[tuple[int, bytes]]) -> bytes:
    return b"".join(b"%d %s" % row for row in rows)


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()[: CHECK_BYTES - 1] + b"\n"


def _short(key: bytes) -> bytes:
    """What is kept of a key; tests have shorter ones."""
    return key[:KEY_BYTES] if len(key) >= KEY_BYTES else key.ljust(KEY_BYTES)


class ItemReader:
    """Reads files of finished items out of the shards; keeps the shards open. Every read is checked by its digest."""

    def __init__(self, shards: Path) -> None:
        self._shards = shards
        self._descriptors: dict[str, int] = {}

    def read(self, location: tuple[str, int], record: Record, name: str) -> bytes:
        """Raises KeyError for a file the item lacks, DamagedShard when the bytes do not match the record."""
        shard, offset = location
        entry = record.files[name]
        data = os.pread(self._open(shard), entry.size, member_offset(record, offset, name))
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise DamagedShard(self._path(shard), f"is damaged: {name} of item {record.id} does not match its record")
        return data

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _open(self, shard: str) -> int:
        if shard not in self._descriptors:
            try:
                self._descriptors[shard] = os.open(self._path(shard), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise DamagedShard(self._path(shard), "is gone") from error
        return self._descriptors[shard]

    def _path(self, shard: str) -> Path:
        return self._shards / f"{shard}.tar"


class FinishedLines(RecordLines):
    """Some of the finished items, one a id, as a collection would publish them. rows: their numbers by id."""

    def __init__(self, finished: Finished, rows: Mapping[str, int]) -> None:
        self._finished, self._rows = finished, rows

    def lines(self) -> Iterator[bytes]:
        return (self._finished.line_of(self._rows[item_id]) for item_id in sorted(self._rows))

    def line(self, item_id: str) -> bytes | None:
        row = self._rows.get(item_id)
        return None if row is None else self._finished.line_of(row)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._rows))

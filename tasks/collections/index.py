"""What a stage holds: every finished item of every shard, found by (id, key) without reading the shards.

A shard's index is .lostwax/STAGE/SHA16.idx: a line an item, `OFFSET RECORD`, and a last one that checks them. It is
made again from the shard at need.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tasks.collections.files import write_atomically
from tasks.collections.records import Record, from_line, identity, is_better
from tasks.collections.tarball import member_offset, scan

log = logging.getLogger(__name__)

CHECK_BYTES = 17


class DamagedShard(Exception):
    """A shard is gone, or its bytes are not what a record promises."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path


def write_index(local: Path, shard: str, rows: Iterable[tuple[int, bytes]]) -> None:
    """rows: (offset, record line) of every item in the shard."""
    local.mkdir(parents=True, exist_ok=True)
    body = b"".join(b"%d %s" % row for row in rows)
    write_atomically(local / f"{shard}.idx", body + _check(body))


class Held:
    """The finished items of one stage on this machine: id + key -> (shard, offset, record line).

    Of an item that was made again at a better rung of its ladder, the better one counts.
    """

    def __init__(
        self, local: Path, shards: Path, digest: Callable[[Path], str] | None, *, holding: bool = False
    ) -> None:
        """digest: sha256 of a file through the stat cache, so that an unchanged shard is not read again; None trusts
        the shards (a worker's: the planner has checked them). holding: this process holds the collection, and may set
        damaged shards aside."""
        self._local = local
        self._shards = shards
        self._digest = digest
        self._holding = holding
        self._loaded: dict[str, int] = {}
        self._items: dict[str, tuple[str, int, bytes]] = {}

    def refresh(self) -> bool:
        """Take in new shards, forget those that are gone. Of a damaged one the whole items count.

        True when a damaged shard was set aside: its items wait in a spool, to be recovered.
        """
        names = {path.stem for path in self._shards.glob("*.tar")} if self._shards.is_dir() else set()
        if self._loaded.keys() - names:
            self._items.clear()
            self._loaded.clear()
        set_aside = False
        for name in sorted(names - self._loaded.keys()):
            if self._digest is None or self._digest(self._shards / f"{name}.tar")[:16] == name:
                self._load(name, self._rows(name))
                continue
            log.warning("%s/%s.tar is damaged: its bytes are not those of its name", self._shards, name)
            if self._holding:
                self._set_aside(name)
                set_aside = True
            else:
                self._load(name, self._scan(name))
        return set_aside

    def line(self, item_id: str, key: str) -> bytes | None:
        """The record's line, or None where the item is not held under this key."""
        place = self._items.get(item_id + key)
        return place[2] if place else None

    def place(self, item_id: str, key: str) -> tuple[str, int] | None:
        """(shard, offset) of a held item."""
        place = self._items.get(item_id + key)
        return (place[0], place[1]) if place else None

    def lines(self) -> Iterator[bytes]:
        """Records of all held items, superseded ones included."""
        return (line for _, _, line in self._items.values())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(id, key) of all held items, superseded ones included."""
        return map(identity, self.lines())

    def ids(self) -> set[str]:
        """Ids of all held items, superseded ones included."""
        return {item_id for item_id, _ in self.pairs()}

    def __len__(self) -> int:
        return len(self._items)

    def size_of(self, pairs: Iterable[tuple[str, str]]) -> int:
        """Bytes of the files of these items."""
        lines = [line for pair in pairs if (line := self.line(*pair))]
        return sum(entry.size for line in lines for entry in from_line(line).files.values())

    def shard_sizes(self) -> dict[str, int]:
        """Number of held items by shard."""
        return dict(self._loaded)

    def _load(self, name: str, rows: Iterable[tuple[int, bytes]]) -> None:
        self._loaded[name] = 0
        for offset, line in rows:
            item_id, key = identity(line)
            known = self._items.get(item_id + key)
            if known is None or is_better(line, known[2]):
                self._items[item_id + key] = (name, offset, line)
            self._loaded[name] += 1

    def _rows(self, name: str) -> list[tuple[int, bytes]]:
        """(offset, record line) of a shard's items, from its index, which is made where it is missing or unreadable."""
        index = self._local / f"{name}.idx"
        try:
            return _read_index(index)
        except FileNotFoundError:
            pass
        except ValueError:
            log.warning("%s is damaged, and is made again from its shard", index)
        rows = self._scan(name)
        write_index(self._local, name, rows)
        return rows

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
            known = {line for _, line in _read_index(index)}
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


def _read_index(path: Path) -> list[tuple[int, bytes]]:
    """Raises FileNotFoundError, and ValueError for a damaged index."""
    data = path.read_bytes()
    body, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
    if check != _check(body):
        raise ValueError(f"{path} is damaged")
    rows = []
    for row in body.splitlines(keepends=True):
        offset, _, line = row.partition(b" ")
        rows.append((int(offset), line))
    return rows


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()[: CHECK_BYTES - 1] + b"\n"


class ItemReader:
    """Reads files of held items out of the shards; keeps the shards open. Every read is checked by its digest."""

    def __init__(self, shards: Path) -> None:
        self._shards = shards
        self._descriptors: dict[str, int] = {}

    def read(self, place: tuple[str, int], record: Record, name: str) -> bytes:
        """Raises KeyError for a file the item lacks, DamagedShard when the bytes do not match the record."""
        shard, offset = place
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

"""What a stage holds: every finished item of every shard, found by (id, key) without reading the shards.

A shard's index is .lostwax/STAGE/SHA16.idx, a line an item: `OFFSET RECORD`. It can always be made again from the shard.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tasks.collections.files import write_atomically
from tasks.collections.records import from_line, identity
from tasks.collections.tarball import Segment, member_offset, scan
from tasks.stage import Record

log = logging.getLogger(__name__)


class DamagedShard(Exception):
    """A shard's bytes are not those that its name promises."""


def write_index(local: Path, shard: str, segments: Iterable[Segment]) -> None:
    local.mkdir(parents=True, exist_ok=True)
    rows = b"".join(b"%d %s" % (segment.offset, segment.line) for segment in segments)
    write_atomically(local / f"{shard}.idx", rows)


class Held:
    """The finished items of one stage on this machine: id + key -> (shard, offset, record line)."""

    def __init__(self, local: Path, shards: Path, digest: Callable[[Path], str] | None) -> None:
        """digest: sha256 of a file through the stat cache, so that an unchanged shard is not read again; None trusts
        the shards (a worker's: the planner has checked them)."""
        self._local = local
        self._shards = shards
        self._digest = digest
        self._loaded: dict[str, int] = {}
        self.set_aside: list[str] = []
        """Names of damaged shards; their whole items wait in a spool to be recovered."""
        self._items: dict[str, tuple[str, int, bytes]] = {}

    def refresh(self) -> None:
        """Take in new shards. A damaged shard is set aside, its whole items are kept; its loss is logged."""
        names = {path.stem for path in self._shards.glob("*.tar")} if self._shards.is_dir() else set()
        if gone := self._loaded.keys() - names:
            self._items = {item: place for item, place in self._items.items() if place[0] not in gone}
            for name in gone:
                del self._loaded[name]
        for name in sorted(names - self._loaded.keys()):
            if self._digest is not None and self._digest(self._shards / f"{name}.tar")[:16] != name:
                log.warning("%s/%s.tar is damaged: its bytes are not those of its name", self._shards, name)
                self._set_aside(name)
            else:
                self._load(name)

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

    def _load(self, name: str) -> None:
        shard, index = self._shards / f"{name}.tar", self._local / f"{name}.idx"
        if not index.is_file():
            descriptor = os.open(shard, os.O_RDONLY | os.O_CLOEXEC)
            try:
                write_index(self._local, name, scan(descriptor, verify=True))
            finally:
                os.close(descriptor)
        count = 0
        with index.open("rb") as file:
            for row in file:
                offset, line = row.split(b" ", 1)
                item_id, key = identity(line)
                self._items[item_id + key] = (name, int(offset), line)
                count += 1
        self._loaded[name] = count

    def _set_aside(self, name: str) -> None:
        """Copy a damaged shard to a spool and remove it: recovery keeps the items in it whose bytes match."""
        target = self._local / f"spool-damaged-{name}.tar"
        shard = self._shards / f"{name}.tar"
        shutil.copyfile(shard, target)  # never touch its bytes: DVC's cache may be the same inode
        shard.unlink()
        (self._local / f"{name}.idx").unlink(missing_ok=True)
        self.set_aside.append(name)


class ItemReader:
    """Reads files of held items out of the shards; keeps the shards open. Every read is checked by its digest."""

    def __init__(self, shards: Path) -> None:
        self._shards = shards
        self._descriptors: dict[str, int] = {}

    def read(self, place: tuple[str, int], line: bytes, name: str) -> bytes:
        """Raises KeyError for a file the item lacks, DamagedShard when the bytes do not match the record."""
        return self.read_record(place, from_line(line), name)

    def read_record(self, place: tuple[str, int], record: Record, name: str) -> bytes:
        shard, offset = place
        entry = record.files[name]
        if shard not in self._descriptors:
            self._descriptors[shard] = os.open(self._shards / f"{shard}.tar", os.O_RDONLY | os.O_CLOEXEC)
        data = os.pread(self._descriptors[shard], entry.size, member_offset(record, offset, name))
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise DamagedShard(f"{self._shards / shard}.tar: the bytes of {name} of item {record.id} do not match")
        return data

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

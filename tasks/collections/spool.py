"""A worker's own append-only tar, and how it becomes a shard.

A spool is flocked by its worker. Whoever finds one unlocked may seal it: scan the whole items, cut the torn tail, close,
fsync, name it by its content, rename it into the shards folder. Nothing finished is lost to a death at any moment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from tasks.collections.index import write_index
from tasks.collections.records import identity
from tasks.collections.tarball import END, Segment, encode_item, scan
from tasks.stage import Record

SYNC_EVERY_ITEMS = 25
SYNC_EVERY_S = 1.0
SEAL_AT_BYTES = 256 << 20


class Spool:
    """An open spool. Not for sharing: one process, one spool."""

    def __init__(self, local: Path, shards: Path) -> None:
        """Nothing is created before the first item. local: .lostwax/STAGE. shards: artifacts/STAGE/shards."""
        self._local = local
        self._shards = shards
        self._path: Path | None = None
        self._descriptor = -1
        self._segments: list[Segment] = []
        self._end = 0
        self._unsynced = 0
        self._synced_at = 0.0

    def append(self, record: Record, files: Mapping[str, bytes]) -> None:
        """Finish an item. On any OSError (a full disk) the spool is cut back to the last whole item."""
        if self._descriptor < 0:
            self._open()
        data, line = encode_item(record, files)
        try:
            _write_all(self._descriptor, data)
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            raise
        self._segments.append(Segment(self._end, len(data), line))
        self._end += len(data)
        self._unsynced += 1
        if self._unsynced >= SYNC_EVERY_ITEMS or time.monotonic() - self._synced_at >= SYNC_EVERY_S:
            self.sync()

    def sync(self) -> None:
        """Make all that is finished safe from power loss."""
        if self._unsynced:
            os.fdatasync(self._descriptor)
            self._unsynced = 0
        self._synced_at = time.monotonic()

    def seal_if_full(self) -> None:
        if self._end >= SEAL_AT_BYTES:
            self.seal()

    def seal(self) -> None:
        """Turn what is in the spool into a shard, and start afresh."""
        if self._path is not None:
            _finish(self._path, self._descriptor, self._segments, self._shards, self._local)
            self._path, self._descriptor, self._segments, self._end = None, -1, [], 0

    def _open(self) -> None:
        self._local.mkdir(parents=True, exist_ok=True)
        self._path = self._local / f"spool-{os.getpid()}-{time.time_ns():x}.tar"
        self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._synced_at = time.monotonic()


def recover(local: Path, shards: Path) -> list[tuple[str, str]]:
    """Seal every spool whose worker is gone, together in one shard; returns (id, key) of the items saved.

    Spools that a living worker still holds are left alone.
    """
    leftovers: list[tuple[Path, int]] = []
    for path in sorted(local.glob("spool-*.tar")):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        leftovers.append((path, descriptor))
    if not leftovers:
        return []
    (path, descriptor), *others = leftovers
    segments = list(scan(descriptor, verify=True))
    if any(segment.offset + segment.size != after.offset for segment, after in zip(segments, segments[1:], strict=False)):
        segments = _compacted(path, descriptor, segments)
    end = segments[-1].offset + segments[-1].size if segments else 0
    os.ftruncate(descriptor, end)
    os.lseek(descriptor, end, os.SEEK_SET)
    for _, other in others:
        segments += _copy(other, descriptor, scan(other, verify=True))
    if segments:
        _finish(path, descriptor, segments, shards, local)
    else:
        os.close(descriptor)
        path.unlink()
    for other_path, other in others:
        os.close(other)
        other_path.unlink()
    return [identity(segment.line) for segment in segments]


def rewrite(local: Path, shards: Path, names: Iterable[str], keep: set[tuple[str, str]]) -> str | None:
    """Gather the items of some shards that are to be kept, each once, into one new shard; its name, or None for none."""
    path = local / f"spool-{os.getpid()}-{time.time_ns():x}.tar"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    segments: list[Segment] = []
    left = set(keep)
    for name in names:
        source = os.open(shards / f"{name}.tar", os.O_RDONLY | os.O_CLOEXEC)
        try:
            wanted = [segment for segment in scan(source, verify=True) if identity(segment.line) in left]
            left -= {identity(segment.line) for segment in wanted}
            segments += _copy(source, descriptor, wanted)
        finally:
            os.close(source)
    if segments:
        return _finish(path, descriptor, segments, shards, local)
    os.close(descriptor)
    path.unlink()
    return None


def _compacted(path: Path, descriptor: int, segments: list[Segment]) -> list[Segment]:
    """Move the whole items together over the damaged ones between them (only after power loss)."""
    moved, end = [], 0
    for segment in segments:
        data = os.pread(descriptor, segment.size, segment.offset)
        os.pwrite(descriptor, data, end)
        moved.append(Segment(end, segment.size, segment.line))
        end += segment.size
    return moved


def _copy(source: int, target: int, segments: Iterable[Segment]) -> list[Segment]:
    copied = []
    for segment in segments:
        offset = os.lseek(target, 0, os.SEEK_END)
        _write_all(target, os.pread(source, segment.size, segment.offset))
        copied.append(Segment(offset, segment.size, segment.line))
    return copied


def _finish(path: Path, descriptor: int, segments: list[Segment], shards: Path, local: Path) -> str:
    """Close, fsync, index and rename a spool; returns the shard's name."""
    os.lseek(descriptor, 0, os.SEEK_END)
    _write_all(descriptor, END)
    os.fsync(descriptor)
    with path.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    os.fchmod(descriptor, 0o444)
    shards.mkdir(parents=True, exist_ok=True)
    write_index(local, name, segments)
    _move(path, shards / f"{name}.tar")
    _sync_folder(shards)
    os.close(descriptor)
    return name


def _move(path: Path, target: Path) -> None:
    """Rename; where artifacts/ is on another file system, copy, fsync and rename there."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != 18:  # EXDEV
            raise
        partial = target.with_suffix(".partial")
        shutil.copyfile(path, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(target)
        path.unlink()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

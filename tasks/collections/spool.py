"""A worker's own append-only tar, and how it becomes a shard.

A spool is locked by its worker. Whoever finds one unlocked may seal it: scan the whole items, cut the torn tail, close,
fsync, name it by its content, rename it into the shards folder. Nothing finished is lost to a death at any moment.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Set
from pathlib import Path

from tasks.collections.index import write_index
from tasks.collections.records import identity
from tasks.collections.tarball import END, Segment, scan

SYNC_EVERY_ITEMS = 25
SYNC_EVERY_S = 1.0
SEAL_AT_BYTES = 256 << 20
COPY_BYTES = 8 << 20


class Spool:
    """An open spool: one process, one spool. Its methods may be called from several threads."""

    def __init__(self, local: Path, shards: Path) -> None:
        """Nothing is created before the first item. local: .lostwax/STAGE. shards: artifacts/STAGE/shards."""
        self._local = local
        self._shards = shards
        self._path: Path | None = None
        self._descriptor = -1
        self._segments: list[Segment] = []
        self._end = 0
        self._unsynced = 0
        self._unsynced_since = 0.0
        self._lock = threading.RLock()

    def append(self, data: bytes, line: bytes) -> None:
        """Finish an item, given as `encode_item` made it. On an OSError (a full disk) its bytes are cut off again."""
        with self._lock:
            if self._path is None:
                self._path, self._descriptor = _new_spool(self._local)
            try:
                _write_all(self._descriptor, data)
            except OSError:
                os.ftruncate(self._descriptor, self._end)
                os.lseek(self._descriptor, self._end, os.SEEK_SET)
                raise
            self._segments.append(Segment(self._end, len(data), line))
            self._end += len(data)
            if not self._unsynced:
                self._unsynced_since = time.monotonic()
            self._unsynced += 1
            if self._unsynced >= SYNC_EVERY_ITEMS:
                self.sync()

    def sync(self) -> None:
        """Make all that is finished safe from power loss."""
        with self._lock:
            if self._unsynced:
                os.fdatasync(self._descriptor)
                self._unsynced = 0

    def sync_if_due(self) -> None:
        """For a clock to call, several times a second: no finished item is at risk for longer than SYNC_EVERY_S."""
        with self._lock:
            if self._unsynced and time.monotonic() - self._unsynced_since >= SYNC_EVERY_S / 2:
                self.sync()

    def seal_if_full(self) -> None:
        if self._end >= SEAL_AT_BYTES:
            self.seal()

    def seal(self) -> None:
        """Turn what is in the spool into a shard, and start afresh."""
        with self._lock:
            if self._path is not None:
                _finish(self._path, self._descriptor, self._segments, self._shards, self._local)
                self._path, self._descriptor, self._segments, self._end, self._unsynced = None, -1, [], 0, 0


def recover(local: Path, shards: Path) -> list[tuple[str, str]]:
    """Seal every spool whose worker is gone, together in one shard; returns (id, key) of the items saved.

    Spools that a living worker has locked are left alone. A death in here loses nothing: a source goes only after the
    shard with its items is written, and an item that was copied before is not copied again.
    """
    sources = _abandoned(local)
    if not sources:
        return []
    path, descriptor = sources[0]
    segments = list(scan(descriptor, verify=True))
    if _contiguous(segments):
        end = segments[-1].offset + segments[-1].size if segments else 0
        os.ftruncate(descriptor, end)
        os.lseek(descriptor, end, os.SEEK_SET)
        others = sources[1:]
    else:  # damaged in the middle, by power loss or a failing disk: the whole items move to a new file
        path, descriptor = _new_spool(local)
        segments, others = [], sources
    seen = {identity(segment.line) for segment in segments}
    for _, other in others:
        fresh = {identity(segment.line): segment for segment in scan(other, verify=True)}
        segments += _copy(other, descriptor, [segment for pair, segment in fresh.items() if pair not in seen])
        seen |= fresh.keys()
    if segments:
        _finish(path, descriptor, segments, shards, local)
    else:
        os.close(descriptor)
        path.unlink()
    for other_path, other in others:
        os.close(other)
        other_path.unlink()
    return list(seen)


def rewrite(local: Path, shards: Path, names: Iterable[str], keep: Set[bytes]) -> str | None:
    """Gather the items of some shards that are to be kept, each once, in one new shard; its name, or None for none.

    keep: their record lines.
    """
    path, descriptor = _new_spool(local)
    segments: list[Segment] = []
    left = set(keep)
    for name in names:
        source = os.open(shards / f"{name}.tar", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = {segment.line: segment for segment in scan(source, verify=True) if segment.line in left}
            segments += _copy(source, descriptor, found.values())
            left -= found.keys()
        finally:
            os.close(source)
    if segments:
        return _finish(path, descriptor, segments, shards, local)
    os.close(descriptor)
    path.unlink()
    return None


def _new_spool(local: Path) -> tuple[Path, int]:
    local.mkdir(parents=True, exist_ok=True)
    path = local / f"spool-{os.getpid()}-{time.time_ns():x}.tar"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)
    fcntl.lockf(descriptor, fcntl.LOCK_EX)  # a record lock: children that a worker forks do not inherit it
    return path, descriptor


def _abandoned(local: Path) -> list[tuple[Path, int]]:
    """Spools that nobody has locked, now locked by this process."""
    found = []
    for path in sorted(local.glob("spool-*.tar")):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
        else:
            found.append((path, descriptor))
    return found


def _contiguous(segments: list[Segment]) -> bool:
    ends = [0, *(segment.offset + segment.size for segment in segments)]
    return all(segment.offset == end for segment, end in zip(segments, ends, strict=False))


def _copy(source: int, target: int, segments: Iterable[Segment]) -> list[Segment]:
    copied = []
    for segment in segments:
        offset = os.lseek(target, 0, os.SEEK_END)
        for part in _parts(source, segment.offset, segment.size):
            _write_all(target, part)
        copied.append(Segment(offset, segment.size, segment.line))
    return copied


def _parts(descriptor: int, offset: int, size: int) -> Iterator[bytes]:
    for at in range(offset, offset + size, COPY_BYTES):
        yield os.pread(descriptor, min(COPY_BYTES, offset + size - at), at)


def _finish(path: Path, descriptor: int, segments: list[Segment], shards: Path, local: Path) -> str:
    """Close, fsync, index and rename a spool; returns the shard's name.

    Up to the rename no other descriptor of the file may be closed in this process: that would drop its lock.
    """
    os.lseek(descriptor, 0, os.SEEK_END)
    _write_all(descriptor, END)
    os.fsync(descriptor)
    digest = hashlib.sha256()
    for part in _parts(descriptor, 0, os.fstat(descriptor).st_size):
        digest.update(part)
    name = digest.hexdigest()[:16]
    os.fchmod(descriptor, 0o444)
    shards.mkdir(parents=True, exist_ok=True)
    write_index(local, name, ((segment.offset, segment.line) for segment in segments))
    _move(path, descriptor, shards / f"{name}.tar")
    _sync_folder(shards)
    os.close(descriptor)
    return name


def _move(path: Path, descriptor: int, target: Path) -> None:
    """Rename; where artifacts/ is on another file system, or the spool was unlinked, copy, fsync and rename there."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.ENOENT):
            raise
        partial = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        with partial.open("wb") as file:
            for part in _parts(descriptor, 0, os.fstat(descriptor).st_size):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o444)
        partial.rename(target)
        path.unlink(missing_ok=True)


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

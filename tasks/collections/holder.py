"""One run at a time on a collection: the kernel holds the locks, the files say who took them.

There are two. One lies in .lostwax/STAGE, beside the state that it guards. The other lies in artifacts/STAGE: another
workspace may share that folder through a link, and it stays where somebody removes .lostwax while a run is at work.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tasks.collections.inflight import living_workers

log = logging.getLogger(__name__)

LOCAL_NAME, SHARED_NAME = "holder.json", ".holder.json"
ORPHAN_GRACE_S = 10.0
"""Workers die with their run; one that sleeps in the kernel may take a moment."""
LOOK_S = 0.3
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a file system that has no locks answers with."""


class HeldByAnother(Exception):
    """Another run holds the collection; the message names it."""


@contextmanager
def holding(stage: str, local: Path, artifacts: Path) -> Iterator[str | None]:
    """Hold the stage's collection, or raise HeldByAnother. local: .lostwax/STAGE. artifacts: artifacts/STAGE.

    Yields a line about a dead holder whose lock was left behind. A dead holder's workers are waited for.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(_lock(stage, path)) for path in (local / LOCAL_NAME, artifacts / SHARED_NAME)]
        left_behind = next(filter(None, map(_read, files)), None)
        _wait_for_orphans(local, stage)
        for descriptor in files:
            _write(descriptor, _self())
            stack.callback(os.ftruncate, descriptor, 0)
        yield f"took over from a run that died: {_describe(left_behind)}" if left_behind else None


def holder(local: Path, artifacts: Path) -> str | None:
    """Who holds the stage right now, in words; None when nobody does."""
    return next(filter(None, map(_holder_of, (local / LOCAL_NAME, artifacts / SHARED_NAME))), None)


@contextmanager
def _lock(stage: str, path: Path) -> Iterator[int]:
    """The descriptor of the file, locked. Raises HeldByAnother."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            if _take(stage, descriptor, path) and not _is_at(path, descriptor):
                continue  # it was removed since it was opened
            yield descriptor
            return
        finally:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the path still leads to this very file: a lock on a removed one keeps nobody out."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _take(stage: str, descriptor: int, path: Path) -> bool:
    """Lock the file; False, and a warning, on a file system without locks. Raises HeldByAnother."""
    try:
        if not _locked(descriptor):
            raise HeldByAnother(f"{stage} is held by another run: {_describe(_read(descriptor))}")
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        log.warning("%s cannot be locked (%s): see to it that no other machine works on it", path, error.strerror)
        return False
    return True


def _holder_of(path: Path) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _describe(_read(descriptor))
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Take the lock; patient enough for somebody who only looks, and for a new holder to write its name."""
    deadline = time.monotonic() + LOOK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)


def _wait_for_orphans(local: Path, stage: str) -> None:
    deadline = time.monotonic() + ORPHAN_GRACE_S
    while (pid := next(living_workers(local), None)) is not None:
        if time.monotonic() > deadline:
            raise HeldByAnother(f"{stage} is held by pid {pid}, a worker of a run that died; end it: kill -9 {pid}")
        time.sleep(0.05)


def _self() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv)[:200],
    }


def _describe(found: dict[str, object]) -> str:
    return f"host {found.get('host', '?')}, pid {found.get('pid', '?')}, since {found.get('since', '?')}"


def _read(descriptor: int) -> dict[str, object]:
    try:
        value = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _write(descriptor: int, value: dict[str, object]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(value).encode(), 0)

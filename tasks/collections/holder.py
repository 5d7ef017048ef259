"""One run at a time on a collection: the kernel holds the lock, the file says who took it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tasks.collections.inflight import living_workers

ORPHAN_GRACE_S = 10.0
"""Workers die with their run; one that sleeps in the kernel may take a moment."""
LOOK_S = 0.3


class HeldByAnother(Exception):
    """Another run holds the collection; the message names it."""


@contextmanager
def holding(local: Path, stage: str) -> Iterator[str | None]:
    """Hold the stage's collection, or raise HeldByAnother.

    Yields a line about a dead holder whose lock was left behind. A dead holder's workers are waited for.
    """
    local.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(local / "holder.json", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        if not _locked(descriptor):
            raise HeldByAnother(f"{stage} is held by another run: {_describe(_read(descriptor))}")
        left_behind = _read(descriptor)
        _wait_for_orphans(local, stage)
        _write(descriptor, _self())
        try:
            yield f"took over from a run that died: {_describe(left_behind)}" if left_behind else None
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(local: Path) -> str | None:
    """Who holds the stage right now, in words; None when nobody does."""
    path = local / "holder.json"
    if not path.is_file():
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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

"""Which item a worker has in hand, written where it outlives the worker: one tiny file a worker, overwritten in place.

The file is locked for as long as the worker lives, so that a run can tell the leftovers of the dead from the living.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SIZE = 128


class InFlight:
    """The worker's side. Surviving a process death needs no fsync; after power loss nobody is charged."""

    def __init__(self, local: Path) -> None:
        local.mkdir(parents=True, exist_ok=True)
        self.path = marker_path(local, os.getpid())
        self._descriptor = os.open(self.path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o644)
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)  # a record lock: children that the worker forks do not inherit it

    def mark(self, item_id: str, key: str) -> None:
        os.pwrite(self._descriptor, f"{item_id} {key}".encode().ljust(SIZE), 0)

    def clear(self) -> None:
        os.pwrite(self._descriptor, b" " * SIZE, 0)

    def close(self) -> None:
        os.close(self._descriptor)
        self.path.unlink(missing_ok=True)


def marker_path(local: Path, pid: int) -> Path:
    return local / f"inflight-{pid}"


def read_marker(path: Path) -> tuple[str, str] | None:
    """(id, key) of the item in hand, or None."""
    try:
        parts = path.read_text().split()
    except FileNotFoundError:
        return None
    return (parts[0], parts[1]) if len(parts) == 2 else None


def living_workers(local: Path) -> Iterator[int]:
    """Process ids of workers that live, whoever started them."""
    for path in local.glob("inflight-*"):
        with suppress(FileNotFoundError), path.open("rb+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                yield int(path.name.removeprefix("inflight-"))


def leftovers(local: Path) -> list[tuple[str, str]]:
    """Items that were in the hands of workers that no longer live."""
    return [marker for path in sorted(local.glob("inflight-*")) if (marker := read_marker(path))]


def clear_leftovers(local: Path) -> None:
    """Forget them, once they are charged."""
    for path in local.glob("inflight-*"):
        path.unlink()

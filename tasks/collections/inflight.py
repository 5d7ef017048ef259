"""Which item a worker has in hand, written where it outlives the worker: one tiny file a worker, overwritten in place."""

from __future__ import annotations

import os
from pathlib import Path

SIZE = 128


class InFlight:
    """The worker's side. Surviving a process death needs no fsync; after power loss nobody is charged."""

    def __init__(self, local: Path) -> None:
        local.mkdir(parents=True, exist_ok=True)
        self.path = local / f"inflight-{os.getpid()}"
        self._descriptor = os.open(self.path, os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC, 0o644)

    def mark(self, item_id: str, key: str) -> None:
        os.pwrite(self._descriptor, f"{item_id} {key}".encode().ljust(SIZE), 0)

    def clear(self) -> None:
        os.pwrite(self._descriptor, b" " * SIZE, 0)

    def close(self) -> None:
        os.close(self._descriptor)
        self.path.unlink(missing_ok=True)


def read_marker(path: Path) -> tuple[str, str] | None:
    """(id, key) of the item in hand, or None."""
    try:
        parts = path.read_text().split()
    except FileNotFoundError:
        return None
    return (parts[0], parts[1]) if len(parts) == 2 else None


def take_leftovers(local: Path) -> list[tuple[str, str]]:
    """Items in the hands of workers that no longer live; their files are removed."""
    found = []
    for path in sorted(local.glob("inflight-*")):
        if marker := read_marker(path):
            found.append(marker)
        path.unlink()
    return found

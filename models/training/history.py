"""What happened in a training, a row of JSON a line, appended as it goes: memory and checkpoints stay small.

A checkpoint remembers how long the file was; a training that goes on from it cuts off what came after.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
FILE = "history.jsonl"
MOST_STEPS = 5_000
"""Steps that a finished training keeps: more than a chart has pixels."""


class History:
    """Rows of steps (with `raw` and `weighted` terms) and of epochs, in the order in which they happened."""

    def __init__(self, folder: Path, size: int = 0) -> None:
        """size: bytes that are kept of a file that is there."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        with self._path.open("ab") as file:
            if file.tell() < size:
                raise ValueError(f"{self._path} is shorter than its checkpoint says; delete {folder} to start anew")
            file.truncate(size)
        self._file = self._path.open("ab")

    def add(self, row: Row) -> None:
        self._file.write(json.dumps(row, separators=(",", ":")).encode() + b"\n")

    def flush(self) -> int:
        """Bring the rows to the disk; returns the file's size in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def rows(self) -> Iterator[Row]:
        self._file.flush()
        with self._path.open("rb") as file:
            yield from map(json.loads, file)

    def steps(self) -> list[Row]:
        """Every row of a step; of more than MOST_STEPS every k-th, so that at most so many are left."""
        every = max(1, -(-sum(map(is_step, self.rows())) // MOST_STEPS))
        return [row for row in self.rows() if is_step(row) and row["step"] % every == 0]

    def epochs(self) -> list[Row]:
        return [row for row in self.rows() if not is_step(row)]

    def close(self) -> None:
        self._file.close()


def is_step(row: Row) -> bool:
    return "raw" in row

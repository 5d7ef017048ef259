"""What a host prints, kept within bounds however much it is: the end of it in memory, some more in a file."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

TAIL_BYTES = 4000
FILE_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16
LAST_OUTPUT_S = 1.0
"""How long the output of a process that has ended is waited for."""


class HostLog:
    """Reads a stream to its end in a thread. A file that is full starts over."""

    def __init__(self, stream: IO[bytes], folder: Path) -> None:
        """The file's name tells which process it belongs to; see `remove_abandoned`."""
        self.file = folder / f"host-{os.getpid()}-{time.monotonic_ns():x}.log"
        self._tail = b""
        self._thread = threading.Thread(target=self._keep, args=(stream,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the last output of a process that has ended."""
        self._thread.join(LAST_OUTPUT_S)

    @property
    def tail(self) -> str:
        return self._tail.decode(errors="replace")

    def remove(self) -> None:
        self.file.unlink(missing_ok=True)

    def _keep(self, stream: IO[bytes]) -> None:
        with stream:
            while data := os.read(stream.fileno(), CHUNK_BYTES):
                self._tail = (self._tail + data)[-TAIL_BYTES:]
                with suppress(OSError):  # on a full disk the host must not wait for its output to be taken
                    self._write(data)

    def _write(self, data: bytes) -> None:
        with self.file.open("ab") as file:
            if file.tell() + len(data) > FILE_BYTES:
                file.truncate(0)
            file.write(data)


def remove_abandoned(folder: Path) -> None:
    """Remove logs of hosts whose worker no longer lives."""
    for path in folder.glob("host-*.log"):
        worker = path.name.split("-")[1]
        if worker.isdigit() and not psutil.pid_exists(int(worker)):
            path.unlink(missing_ok=True)

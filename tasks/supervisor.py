"""Worker processes under watch: handed chunks, timed, restarted when they die. It knows nothing of what an item is for."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tasks.collections.inflight import read_marker

CHUNKS_AHEAD = 2
MAX_FAILED_STARTS = 3


@dataclass(frozen=True)
class Task:
    """An item to compute. alone: in a chunk of its own (it has killed a worker before)."""

    id: str
    key: str
    label: str
    payload: Any = None
    alone: bool = False


@dataclass(frozen=True)
class Result:
    """An item came to an end in a living worker. outcome: "done", "blocked" or a class of failure."""

    id: str
    key: str
    outcome: str
    message: str
    detail: str
    seconds: float
    peak_mb: float
    worker: str


@dataclass(frozen=True)
class Death:
    """A worker died. `in_hand` is the (id, key) it was working on; `unfinished` are all tasks it never reported."""

    worker: str
    exit_code: int
    timed_out: bool
    in_hand: tuple[str, str] | None
    unfinished: list[Task]
    log: str


@dataclass(frozen=True)
class Notice:
    """kind: "progress", "unavailable" (the stage cannot start here) or "environment" (the machine is at fault)."""

    kind: str
    text: str


Event = Result | Death | Notice


@dataclass
class _Process:
    name: str
    popen: subprocess.Popen[bytes]
    log: Path
    marker: Path
    tasks: dict[str, Task] = field(default_factory=dict)
    chunks: deque[set[str]] = field(default_factory=deque)
    buffer: bytes = b""
    in_hand: tuple[str, str] | None = None
    in_hand_since: float = 0.0
    timed_out: bool = False
    stopping: bool = False
    heard: bool = False


class Pool:
    """Up to `num_workers` worker processes of one stage."""

    def __init__(
        self,
        hello: Mapping[str, Any],
        local: Path,
        encode: Callable[[Task], Mapping[str, Any]],
        *,
        num_workers: int,
        chunk: int,
        item_time_limit_s: float | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._hello = dict(hello)
        self._local = local
        self._encode = encode
        self._num_workers = num_workers
        self._chunk = chunk
        self._limit_s = item_time_limit_s
        self._environment = {**os.environ, **(environment or {})}
        self._selector = selectors.DefaultSelector()
        self._processes: dict[int, _Process] = {}
        self._num_started = 0
        self._failed_starts = 0

    @property
    def num_outstanding(self) -> int:
        """Tasks handed out and not reported."""
        return sum(len(process.tasks) for process in self._processes.values())

    def feed(self, pending: deque[Task]) -> None:
        """Hand out chunks, starting workers as long as there is work for them."""
        while pending:
            process = self._roomiest()
            if process is None:
                return
            self._dispatch(process, pending)

    def wait(self, timeout_s: float) -> Iterator[Event]:
        """What happened, waiting up to timeout_s for something to."""
        for key, _ in self._selector.select(timeout_s):
            process: _Process = key.data
            data = os.read(key.fd, 1 << 16)
            if data:
                process.heard = True
                *lines, process.buffer = (process.buffer + data).split(b"\n")
                for line in lines:
                    yield from self._handle(process, json.loads(line))
            else:
                yield from self._reap(process)
        self._kill_the_late()

    def stop(self, grace_s: float) -> Iterator[Event]:
        """Let every worker finish the item in hand and seal; after grace_s kill what is left."""
        for process in self._processes.values():
            if not process.stopping:
                self._send(process, {"stop": True})
                process.stopping = True
        deadline = time.monotonic() + grace_s
        while self._processes:
            if time.monotonic() > deadline:
                self.kill()
            yield from self.wait(0.2)

    def kill(self) -> None:
        for process in self._processes.values():
            process.popen.kill()

    def _roomiest(self) -> _Process | None:
        waiting = [p for p in self._processes.values() if not p.stopping and len(p.chunks) < CHUNKS_AHEAD]
        idle = [p for p in waiting if not p.chunks]
        if idle:
            return idle[0]
        if len(self._processes) < self._num_workers:
            return self._start()
        return min(waiting, key=lambda p: len(p.chunks), default=None)

    def _start(self) -> _Process:
        self._num_started += 1
        name = f"worker-{self._num_started}"
        logs = self._local / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{name}.log"
        with log.open("wb") as log_file:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "tasks.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=self._environment,
                cwd=self._hello["workspace"],
            )
        process = _Process(name, popen, log, self._local / f"inflight-{popen.pid}")
        self._processes[popen.pid] = process
        self._selector.register(_stream(popen.stdout), selectors.EVENT_READ, process)
        self._send(process, {"hello": {**self._hello, "worker_index": self._num_started - 1}})
        return process

    def _dispatch(self, process: _Process, pending: deque[Task]) -> None:
        chunk = [pending.popleft()]
        while pending and len(chunk) < self._chunk and not chunk[0].alone and not pending[0].alone:
            chunk.append(pending.popleft())
        process.chunks.append({task.id for task in chunk})
        process.tasks |= {task.id: task for task in chunk}
        self._send(process, {"chunk": [self._encode(task) for task in chunk]})

    def _send(self, process: _Process, message: Mapping[str, Any]) -> None:
        stream = _stream(process.popen.stdin)
        with suppress(BrokenPipeError):  # it died: its end of the other pipe says so
            stream.write(json.dumps(message).encode() + b"\n")
            stream.flush()

    def _handle(self, process: _Process, message: dict[str, Any]) -> Iterator[Event]:
        for result in message.get("results", ()):
            process.tasks.pop(result["id"], None)
            for chunk in process.chunks:
                chunk.discard(result["id"])
            yield Result(
                result["id"],
                result["key"],
                result["outcome"],
                result.get("message", ""),
                result.get("detail", ""),
                result["seconds"],
                result["peak_mb"],
                process.name,
            )
        while process.chunks and not process.chunks[0]:
            process.chunks.popleft()
        for kind in ("progress", "unavailable", "environment"):
            if kind in message:
                process.stopping = process.stopping or kind != "progress"
                yield Notice(kind, message[kind])

    def _reap(self, process: _Process) -> Iterator[Event]:
        self._selector.unregister(_stream(process.popen.stdout))
        exit_code = process.popen.wait()
        for stream in (process.popen.stdin, process.popen.stdout):
            with suppress(BrokenPipeError):
                _stream(stream).close()
        del self._processes[process.popen.pid]
        in_hand = read_marker(process.marker)
        process.marker.unlink(missing_ok=True)
        if exit_code == 0:
            if process.tasks:
                yield Death(process.name, 0, False, None, list(process.tasks.values()), "")
            return
        log = _tail(process.log)
        if not process.heard and in_hand is None and not process.stopping:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                yield Notice("environment", f"workers die before their first item; the last one's log:\n{log}")
        else:
            self._failed_starts = 0
        yield Death(process.name, exit_code, process.timed_out, in_hand, list(process.tasks.values()), log)

    def _kill_the_late(self) -> None:
        if self._limit_s is None:
            return
        now = time.monotonic()
        for process in self._processes.values():
            in_hand = read_marker(process.marker)
            if in_hand != process.in_hand:
                process.in_hand, process.in_hand_since = in_hand, now
            elif in_hand and now - process.in_hand_since > self._limit_s and not process.timed_out:
                process.timed_out = True
                process.popen.kill()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _tail(log: Path, size: int = 4000) -> str:
    return log.read_bytes()[-size:].decode(errors="replace") if log.is_file() else ""

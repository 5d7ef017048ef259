"""Worker processes under watch: handed chunks, timed, restarted when they die. It does not know what an item is for."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tasks.collections.inflight import marker_path, read_marker

MAX_EARLY_DEATHS = 3
"""Deaths in a row of workers that reported no item and had none in hand, before the machine counts as broken."""
WATCH_EVERY_S = 0.25
WORKER_EVERY_S = 2.0
EXIT_GRACE_S = 5.0
"""How long a worker that has nothing more to say may take to end."""


@dataclass(frozen=True, slots=True)
class Task:
    """A record to compute. item: whose upstream records it is made from, where that is not `id`."""

    id: str
    key: str
    label: str
    payload: Any = None
    item: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """An item came to an end in a living worker. outcome: "done", "blocked" or a class of failure."""

    task: Task
    worker: str
    outcome: str
    message: str
    detail: str
    seconds: float
    peak_mb: float
    exit_code: int | None = None
    figures: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """A worker ended with work left, or not in order.

    in_hand: (id, key) of the item it was at. unfinished: all tasks it never reported. timed_out: the pool killed it for
    holding an item too long. dismissed: the pool killed it because the stage stops.
    """

    worker: str
    exit_code: int
    in_hand: tuple[str, str] | None
    unfinished: list[Task]
    timed_out: bool
    dismissed: bool
    log: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What a worker says of itself. kind:

    "progress", "unavailable" (the stage cannot start here), "environment" (the machine is at fault) or "damaged" (text
    is the path of a shard whose bytes are wrong).
    """

    kind: str
    text: str


Event = Result | Death | Notice
FINAL_NOTICES = ("unavailable", "environment", "damaged")
"""Notices after which a worker ends of itself."""


@dataclass
class _Process:
    name: str
    index: int
    """Its number among the living workers, from 0: which GPU is its own."""
    popen: subprocess.Popen[bytes]
    log: Path
    marker: Path
    tasks: dict[str, Task] = field(default_factory=dict)
    """Handed out and not reported."""
    outbox: bytearray = field(default_factory=bytearray)
    """What the pipe to the worker had no room for: a busy or stopped worker must not block the others."""
    buffer: bytes = b""
    in_hand: tuple[str, str] | None = None
    in_hand_since: float = field(default_factory=time.monotonic)
    asked_back: bool = False
    has_reported: bool = False
    timed_out: bool = False
    stopping: bool = False
    dismissed: bool = False

    @property
    def stdin(self) -> IO[bytes]:
        assert self.popen.stdin is not None
        return self.popen.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.popen.stdout is not None
        return self.popen.stdout


class Pool:
    """Up to `num_workers` worker processes of one stage, and the tasks that wait for them in `pending`."""

    def __init__(
        self,
        hello: Mapping[str, Any],
        local: Path,
        pending: Iterable[Task],
        encode: Callable[[Task], Mapping[str, Any]],
        *,
        num_workers: int,
        num_at_first: int,
        chunk: int,
        item_time_limit_s: float | None,
        environment: Mapping[str, str],
    ) -> None:
        """hello: what a worker is told first. local: .lostwax/STAGE. encode: the message that describes a task.

        num_at_first: workers to begin with, where little is expected of them; each WORKER_EVERY_S allows one more.
        """
        self.pending = deque(pending)
        self._hello = dict(hello)
        self._local = local
        self._encode = encode
        self._num_workers = num_workers
        self._num_at_first = num_at_first
        self._began = time.monotonic()
        self._chunk = chunk
        self._limit_s = item_time_limit_s
        self._environment = {**os.environ, **environment}
        self._selector = selectors.DefaultSelector()
        self._processes: dict[int, _Process] = {}
        self._num_started = 0
        self._num_early_deaths = 0
        self._watched_at = 0.0

    @property
    def has_work(self) -> bool:
        """Whether any task is pending, or handed out and not reported."""
        return bool(self.pending) or any(process.tasks for process in self._processes.values())

    def feed(self) -> None:
        """Hand out chunks, starting workers as long as there is work for them, and share out what waits."""
        while self.pending:
            process = self._next_to_feed()
            if process is None:
                return
            self._hand_out(process)
        self._rebalance()

    def wait(self, timeout_s: float) -> Iterator[Event]:
        """What happened, waiting up to timeout_s for something to."""
        for key, events in self._selector.select(timeout_s):
            process: _Process = key.data
            if process.popen.pid not in self._processes:
                continue
            if events & selectors.EVENT_WRITE:
                self._write_outbox(process)
            else:
                yield from self._read_events(process)
        for process in list(self._processes.values()):
            # The end of the pipe is not waited for: a child of the worker may still have it open.
            if process.popen.poll() is not None:
                yield from self._read_events(process)
                if process.popen.pid in self._processes:
                    yield from self._reap(process)
        self._kill_overdue()

    def stop(self, grace_s: float) -> Iterator[Event]:
        """Let every worker finish the item in hand and seal; after grace_s kill what is left."""
        for process in self._processes.values():
            if not process.stopping:
                process.stopping = True
                self._send(process, {"stop": True})
        deadline = time.monotonic() + grace_s
        while self._processes:
            if time.monotonic() >= deadline:
                self.dismiss()
            yield from self.wait(0.2)

    def dismiss(self) -> None:
        """Kill every worker. What they finished is safe in their spools, what they have in hand is not charged."""
        for process in self._processes.values():
            process.stopping = process.dismissed = True
            _kill(process)

    def _next_to_feed(self) -> _Process | None:
        """The worker for the next chunk: an idle one, else a new one, else one that has at most a chunk left."""
        working = [process for process in self._processes.values() if not process.stopping]
        least = min(working, key=lambda process: len(process.tasks), default=None)
        if least is not None and not least.tasks:
            return least
        if len(self._processes) < self._num_allowed():
            return self._start()
        return least if least is not None and len(least.tasks) <= self._chunk else None

    def _num_allowed(self) -> int:
        more = int((time.monotonic() - self._began) / WORKER_EVERY_S)
        return min(self._num_workers, self._num_at_first + more)

    def _rebalance(self) -> None:
        """Where a worker is idle, ask the one with most tasks to give back half of those that it has not begun."""
        working = [process for process in self._processes.values() if not process.stopping]
        if len(working) >= self._num_allowed() and all(process.tasks for process in working):
            return
        busiest = max(working, key=lambda process: len(process.tasks), default=None)
        if busiest is not None and len(busiest.tasks) > 1 and not busiest.asked_back:
            busiest.asked_back = True
            self._send(busiest, {"give_back": True})

    def _start(self) -> _Process:
        self._num_started += 1
        name = f"worker-{self._num_started}"
        log = self._local / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as log_file:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "tasks.engine.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=self._environment,
                cwd=self._hello["workspace"],
                process_group=0,  # so that what a worker starts (a teacher's own environment) dies with it
            )
        taken = {process.index for process in self._processes.values()}
        index = next(index for index in range(self._num_workers) if index not in taken)
        process = _Process(name, index, popen, log, marker_path(self._local, popen.pid))
        self._processes[popen.pid] = process
        os.set_blocking(process.stdin.fileno(), False)
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, process)
        self._send(process, {"hello": {**self._hello, "worker_index": index}})
        return process

    def _hand_out(self, process: _Process) -> None:
        chunk = [self.pending.popleft() for _ in range(min(self._chunk, len(self.pending)))]
        if not process.tasks:
            process.in_hand_since = time.monotonic()
        process.tasks |= {task.id: task for task in chunk}
        self._send(process, {"chunk": [self._encode(task) for task in chunk]})

    def _send(self, process: _Process, message: Mapping[str, Any]) -> None:
        process.outbox += json.dumps(message).encode() + b"\n"
        self._write_outbox(process)

    def _write_outbox(self, process: _Process) -> None:
        """Write as much of the outbox as the pipe takes; the selector tells when there is room for more."""
        try:
            while process.outbox:
                with memoryview(process.outbox) as waiting:
                    written = os.write(process.stdin.fileno(), waiting)
                del process.outbox[:written]
        except BlockingIOError:
            pass
        except BrokenPipeError:  # it died: the end of its other pipe says so
            process.outbox.clear()
        watched = process.stdin in self._selector.get_map()
        if process.outbox and not watched:
            self._selector.register(process.stdin, selectors.EVENT_WRITE, process)
        elif watched and not process.outbox:
            self._selector.unregister(process.stdin)

    def _read_events(self, process: _Process) -> Iterator[Event]:
        """Take in all that a worker has written."""
        while True:
            try:
                data = os.read(process.stdout.fileno(), 1 << 18)
            except BlockingIOError:
                return
            if not data:
                yield from self._reap(process)
                return
            *lines, process.buffer = (process.buffer + data).split(b"\n")
            for line in lines:
                yield from self._handle(process, json.loads(line))

    def _handle(self, process: _Process, message: Mapping[str, Any]) -> Iterator[Event]:
        for result in message.get("results", ()):
            process.has_reported = True
            self._num_early_deaths = 0
            yield Result(process.tasks.pop(result.pop("id")), process.name, **result)
        if "given_back" in message:
            process.asked_back = False
            self.pending.extendleft(process.tasks.pop(item_id) for item_id in reversed(message["given_back"]))
        if "progress" in message:
            yield Notice("progress", message["progress"])
        for kind in FINAL_NOTICES:
            if kind in message:
                process.stopping = True
                yield Notice(kind, message[kind])

    def _reap(self, process: _Process) -> Iterator[Event]:
        del self._processes[process.popen.pid]
        for stream in (process.stdin, process.stdout):
            if stream in self._selector.get_map():
                self._selector.unregister(stream)
            with suppress(BrokenPipeError):
                stream.close()
        exit_code = _end(process)
        in_hand = read_marker(process.marker)
        process.marker.unlink(missing_ok=True)
        if exit_code == 0 and not process.tasks:
            return
        log = _tail(process.log)
        if in_hand is None and not process.has_reported and not process.stopping:
            self._num_early_deaths += 1
            if self._num_early_deaths >= MAX_EARLY_DEATHS:
                yield Notice("environment", f"workers end before their first item; the last one's log:\n{log}")
        unfinished = list(process.tasks.values())
        yield Death(process.name, exit_code, in_hand, unfinished, process.timed_out, process.dismissed, log)

    def _kill_overdue(self) -> None:
        """Kill workers that are at one item (or start, or stand still between two) for longer than the limit."""
        now = time.monotonic()
        if self._limit_s is None or now - self._watched_at < WATCH_EVERY_S:
            return
        self._watched_at = now
        for process in self._processes.values():
            in_hand = read_marker(process.marker)
            if in_hand != process.in_hand or not process.tasks:
                process.in_hand, process.in_hand_since = in_hand, now
            elif now - process.in_hand_since > self._limit_s and not process.timed_out:
                process.timed_out = True
                _kill(process)


def _kill(process: _Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.popen.pid, signal.SIGKILL)


def _end(process: _Process) -> int:
    """The exit code of a worker whose pipe has ended; its children, if it left any, are killed."""
    try:
        process.popen.wait(EXIT_GRACE_S)
    except subprocess.TimeoutExpired:
        _kill(process)
    exit_code = process.popen.wait()
    _kill(process)
    return exit_code


def _tail(log: Path, size: int = 4000) -> str:
    return log.read_bytes()[-size:].decode(errors="replace") if log.is_file() else ""

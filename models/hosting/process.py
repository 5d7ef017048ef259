"""A host as its client sees it: one process (with its keeper and all that it starts) that is asked, measured and ended.

host = HostProcess(Program(runtime="hunyuan3d", settings={...}, device="cuda:0"), folder)
host.ask({"load": ...})
while (answer := host.answer(0.25, ("ready", "unavailable"))) is None:         # raises SpokeOutOfTurn, Ended
    host.measure()
host.end()
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy.typing as npt
import psutil

from models.hosting.log import HostLog
from models.hosting.messages import Arrays, ProtocolError, read_message, write_message
from models.machine import process_vram_mb

KEEPER = Path(__file__).with_name("keeper.py")
HOST = Path(__file__).with_name("host.py")
END_S = 10.0
"""How long the keeper may take to end everything (it gives up after half of that)."""
LAST_MESSAGES_S = 1.0
"""How long the messages of a process that has ended are waited for."""
SUSPICIOUS_SHARE = 0.85
"""A host killed from outside while it held more than this share of the machine's memory died for want of memory."""
WORK_OVER_S = 1.0
WORKING_SHARE = 0.1
"""A host works that used this share of a core for WORK_OVER_S. One that hangs is not idle: of its threads, each that
waits for the interpreter's lock wakes 200 times a second, which takes .4 % of a core (measured)."""

Message = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Program:
    """What a host runs: a runtime (a module of models.hosting.runtimes, or a file), its settings and its device.

    python: the interpreter of the teacher's environment. environment: variables beside this process's own.
    """

    runtime: str
    settings: Mapping[str, Any]
    device: str
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def loading(self) -> dict[str, Any]:
        """The request that loads it."""
        return {"load": {"runtime": self.runtime, "settings": dict(self.settings), "device": self.device}}

    @property
    def command(self) -> list[str]:
        return [self.python, "-P", str(HOST)]


class SpokeOutOfTurn(RuntimeError):
    """The host sent something that does not answer what it was asked. Nothing that it sends can be trusted."""


class Ended(RuntimeError):
    """The host has ended."""


@dataclass(frozen=True)
class _Work:
    """What a host had done at a moment: seconds of processors, bytes read from or written to disks."""

    at: float
    cpu_s: float = 0.0
    disk_bytes: int = 0


class HostProcess:
    """A host process and what is known of it."""

    def __init__(self, program: Program, folder: Path) -> None:
        """folder: for its log."""
        self.popen = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), str(os.getpid()), *program.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **program.environment},
            start_new_session=True,
        )
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self.log = HostLog(self.popen.stderr, folder)
        self.pid: int | None = None
        """Of the host itself, once it has said so: the process that was started here is its keeper."""
        self.num_items = 0
        self.rss_mb = self.peak_rss_mb = 0.0
        self.vram_mb: float | None = None
        self.peak_vram_mb: float | None = None
        self.first_held: tuple[float, float] | None = None
        self._alive_at = time.monotonic()
        """When it last showed that it lives: by a message, or by work."""
        self._work = _Work(self._alive_at)
        self._memory_kills_before = _kernel_memory_kills()
        self._num_requests = 0
        self._awaited: int | None = None
        self._heard: queue.SimpleQueue[Message | ProtocolError | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        threading.Thread(target=self._listen, args=(self.popen.stdout,), daemon=True).start()

    @property
    def silent_s(self) -> float:
        """For how long it gave no sign of life."""
        return time.monotonic() - self._alive_at

    def ask(self, head: Mapping[str, Any], arrays: Arrays | None = None) -> None:
        """Send a request. Does not wait until it is taken, which a host that hangs never does."""
        self._num_requests += 1
        self._awaited = self._num_requests
        self._alive_at = time.monotonic()
        request = {**head, "request": self._awaited}
        self._writer = threading.Thread(target=self._write, args=(request, arrays), daemon=True)
        self._writer.start()

    def answer(self, timeout_s: float, kinds: Sequence[str] = ()) -> Message | None:
        """The answer to the last request, None where there is none yet. Raises SpokeOutOfTurn and Ended.

        kinds: what may answer it; see `messages`.
        """
        try:
            message = self._heard.get(timeout=timeout_s)
        except queue.Empty:
            if self.popen.poll() is None:
                return None
            message = self._last_message()
        if message is None:
            raise Ended
        self._alive_at = time.monotonic()
        if isinstance(message, ProtocolError):
            raise SpokeOutOfTurn(str(message)) from message
        head = message[0]
        number = head.get("request")
        if number is None and "beat" in head:
            return None
        if number is None or number != self._awaited:
            asked = "nothing" if self._awaited is None else f"request {self._awaited}"
            raise SpokeOutOfTurn(f"it answered request {number} when it was asked {asked}")
        if not any(isinstance(head.get(kind), (dict, str)) for kind in kinds):
            raise SpokeOutOfTurn(f"it answered with neither {' nor '.join(kinds)}")
        self._awaited = None
        return message

    def check_idle(self) -> None:
        """Between two requests nothing is to be heard but beats. Raises SpokeOutOfTurn and Ended."""
        while not self._heard.empty() or self.popen.poll() is not None:
            self.answer(0)

    def measure(self, *, children: bool = True) -> None:
        """Take down what it holds and has done. children: and those that it started, which takes milliseconds."""
        pids, rss, work = set(), 0, _Work(time.monotonic())
        for member in self._family(children=children):
            with suppress(psutil.Error), member.oneshot():
                rss += member.memory_info().rss
                work = _more(work, member)
                pids.add(member.pid)
        if not pids:
            return
        self.rss_mb = rss / 2**20
        self.peak_rss_mb = max(self.peak_rss_mb, self.rss_mb)
        self.vram_mb = process_vram_mb(pids)
        if self.vram_mb is not None:
            self.peak_vram_mb = max(self.peak_vram_mb or 0.0, self.vram_mb)
        if children:
            self._note(work)

    def end(self) -> None:
        """End it and whatever it started, and wait until its memory is free."""
        self.popen.terminate()
        try:
            self.popen.wait(END_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)  # where the keeper itself was killed
        assert self.popen.stdin is not None
        if self._writer is not None:
            self._writer.join(LAST_MESSAGES_S)
        with suppress(BrokenPipeError):
            self.popen.stdin.close()
        self.log.finish()

    def cause_of_death(self) -> tuple[str, str]:
        """(class of failure, what to say) of a host that ended of itself."""
        try:
            exit_code = self.popen.wait(END_S)
        except subprocess.TimeoutExpired:
            return "killed", "closed its pipe"
        if exit_code == -signal.SIGKILL:
            if _kernel_memory_kills() > self._memory_kills_before:
                return "oom_host", "was killed by the kernel for want of memory"
            if self.peak_rss_mb > SUSPICIOUS_SHARE * psutil.virtual_memory().total / 2**20:
                held = f"{self.peak_rss_mb:.0f} MB, most of this machine's memory"
                return "oom_suspected", f"was killed while it held {held}"
            return "killed", "was killed by signal 9"
        if exit_code < 0:
            return "killed", f"died of {signal.Signals(-exit_code).name}"
        return "killed", f"ended with exit code {exit_code}"

    def _family(self, *, children: bool) -> Iterator[psutil.Process]:
        with suppress(psutil.Error):
            if children or self.pid is None:
                yield from psutil.Process(self.popen.pid).children(recursive=True)
            else:
                yield psutil.Process(self.pid)

    def _note(self, work: _Work) -> None:
        """Work is a sign of life: beats fail to come while the teacher's code holds the interpreter's lock."""
        elapsed, before = work.at - self._work.at, self._work
        if elapsed < WORK_OVER_S:
            return
        self._work = work
        if work.cpu_s - before.cpu_s >= WORKING_SHARE * elapsed or work.disk_bytes > before.disk_bytes:
            self._alive_at = work.at

    def _last_message(self) -> Message | ProtocolError | None:
        """Of a process that has ended. Its pipe may stay open: something that it started may hold it."""
        try:
            return self._heard.get(timeout=LAST_MESSAGES_S)
        except queue.Empty:
            return None

    def _write(self, head: Mapping[str, Any], arrays: Arrays | None) -> None:
        assert self.popen.stdin is not None
        with suppress(BrokenPipeError):  # that it is dead, the end of its other pipe tells
            write_message(self.popen.stdin, head, arrays)

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            try:
                while (message := read_message(stream)) is not None:
                    self._heard.put(message)
            except (ProtocolError, OSError, MemoryError) as error:
                self._heard.put(ProtocolError(f"it cannot be read: {error}"))
        self._heard.put(None)


def _more(work: _Work, member: psutil.Process) -> _Work:
    """With that of another process, and of its children that have ended."""
    cpu_s = work.cpu_s + sum(member.cpu_times()[:4])
    if not hasattr(member, "io_counters"):  # macOS does not count
        return _Work(work.at, cpu_s)
    disk = member.io_counters()
    return _Work(work.at, cpu_s, work.disk_bytes + disk.read_bytes + disk.write_bytes)


def _kernel_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

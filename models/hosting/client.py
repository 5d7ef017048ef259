"""Starts a teacher's host, watches it while it works, replaces it before it leaks and after it dies.

client = Client(Program(runtime="hunyuan3d", settings={...}, device="cuda:0"), Limits(), folder)
client.start()                                       # loads; raises Unavailable
figures, arrays = client.generate("1f00...", names, rgba_VHW4, settings, seed)    # raises ItemFailed, ...
"""

from __future__ import annotations

import logging
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import psutil

from models.errors import BrokenMachine, ItemFailed, Unavailable
from models.hosting import host as program_file
from models.hosting.messages import Arrays, ProtocolError, read_message, write_message
from models.machine import process_vram_mb

log = logging.getLogger(__name__)

WATCH_EVERY_S = 0.25
SUSPICIOUS_SHARE = 0.85
"""A host killed from outside while it held more than this share of the machine's memory died for want of memory."""

Message = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Limits:
    """When a host is replaced or killed. 0 means never.

    restart_after_items: replaced after so many items. leak_mb: replaced when, after an item, it holds so much more host
    or GPU memory than after its first item. memory_limit_mb: killed above so much host memory. silence_s: killed when
    it neither answered nor gave a sign of life for so long.
    """

    restart_after_items: int = 0
    leak_mb: float = 2000
    memory_limit_mb: float = 0
    silence_s: float = 120


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


class Client:
    """The one host of a worker, and a stand-by interpreter that waits to take its place."""

    def __init__(self, program: Program, limits: Limits, folder: Path) -> None:
        """folder: where logs and reproducers are written."""
        self._program = program
        self._limits = limits
        self._folder = folder
        self._host: _Host | None = None
        self._standby: _Host | None = None
        self._broken: str | None = None
        self.ready: dict[str, Any] = {}
        """What the host said of itself when it had loaded: versions, the GPU's name and memory."""
        self.num_loads = 0

    @property
    def fresh(self) -> bool:
        """Whether the next item meets a host that has done nothing before."""
        return self._host is None or self._host.num_items == 0

    def start(self) -> None:
        """Load the teacher, unless it is loaded. Raises Unavailable."""
        if self._host is not None:
            return
        try:
            process = self._standby or self._spawn()
            self._standby = None
            self._load(process)
        except OSError as error:
            raise Unavailable(
                f"cannot start {self._program.python}: {error.strerror}; "
                "`lostwax teacher setup NAME` makes the teacher's environment"
            ) from error

    def generate(
        self,
        item_id: str,
        names: Sequence[str],
        rgba_VHW4: npt.NDArray[np.uint8],
        settings: Mapping[str, Any],
        seed: int,
    ) -> tuple[dict[str, Any], Arrays]:
        """(figures, arrays) of one item.

        Raises ItemFailed with its class for whatever befalls the item or its host, BrokenMachine where the machine
        fails in a new host too, or no new host can be started.
        """
        request = {"id": item_id, "names": list(names), "settings": dict(settings), "seed": seed}
        try:
            return self._ask(request, rgba_VHW4)
        except BrokenMachine as error:
            log.warning("the machine failed the teacher (%s); once more, in a new process", error)
            return self._ask(request, rgba_VHW4)

    def _ask(self, request: Mapping[str, Any], rgba_VHW4: npt.NDArray[np.uint8]) -> tuple[dict[str, Any], Arrays]:
        if self._host is None:
            try:
                self.start()
            except Unavailable as error:
                if self.num_loads == 0:
                    raise
                raise BrokenMachine(f"the teacher ran here before and does not start any more: {error}") from error
        host = self._host
        assert host is not None
        try:
            host.send({"generate": request}, {"rgba_VHW4": rgba_VHW4})
            head, arrays = self._await(host, ("done", "failed"))
        except ItemFailed as failed:
            command = self._write_reproducer(request, rgba_VHW4)
            failed.detail = f"{failed.detail}\nto reproduce: {command}"
            raise
        host.num_items += 1
        if "failed" in head:
            self._fail(host, head["failed"])
        figures = {**head["done"], "host_peak_rss_mb": host.peak_rss_mb}
        if host.peak_vram_mb is not None:
            figures.setdefault("peak_vram_mb", host.peak_vram_mb)
        self._replace_if_due(host, figures)
        return figures, arrays

    def discard(self) -> None:
        """End the host; the next item meets a fresh one."""
        if self._host is not None:
            self._host.kill()
            self._host = None

    def close(self) -> None:
        """End every process."""
        self.discard()
        if self._standby is not None:
            self._standby.kill()
            self._standby = None

    def _spawn(self) -> _Host:
        self._folder.mkdir(parents=True, exist_ok=True)
        return _Host(self._program, self._folder / f"host-{os.getpid()}-{time.monotonic_ns():x}.log")

    def _load(self, process: _Host) -> None:
        program = self._program
        loading = {"runtime": program.runtime, "settings": dict(program.settings), "device": program.device}
        try:
            process.send({"load": loading})
            if self._standby is None:
                self._standby = self._spawn()
            head, _ = self._await(process, ("ready", "unavailable"))
        except ItemFailed as failed:
            raise Unavailable(f"the teacher does not load: {failed}\n{failed.detail}".strip()) from failed
        if "unavailable" in head:
            process.kill()
            raise Unavailable(head["unavailable"])
        self._host = process
        self.ready = head["ready"]
        self.num_loads += 1

    def _await(self, host: _Host, wanted: tuple[str, str]) -> Message:
        """The next message of a wanted kind. Kills a silent or a too large host; raises ItemFailed for a death."""
        heard_at = time.monotonic()
        while True:
            try:
                message = host.messages.get(timeout=WATCH_EVERY_S)
            except queue.Empty:
                host.measure(children=True)
                if 0 < self._limits.memory_limit_mb < host.rss_mb:
                    self._bury(host)
                    raise self._death(
                        host, "oom_host", f"held {host.rss_mb:.0f} MB, over run.teacher.memory_limit_mb"
                    ) from None
                if 0 < self._limits.silence_s < time.monotonic() - heard_at:
                    self._bury(host)
                    raise self._death(
                        host, "timeout", f"gave no sign of life for {self._limits.silence_s:g} s"
                    ) from None
                continue
            if message is None:
                memory_deaths = _kernel_memory_kills() - host.memory_kills_before
                self._bury(host)
                raise self._death(host, *_cause(host, memory_deaths))
            heard_at = time.monotonic()
            if any(kind in message[0] for kind in wanted):
                return message

    def _bury(self, host: _Host) -> None:
        host.kill()
        if host is self._host:
            self._host = None

    def _death(self, host: _Host, failure_class: str, message: str) -> ItemFailed:
        figures = {"peak_rss_mb": host.peak_rss_mb, "peak_vram_mb": host.peak_vram_mb}
        text = f"the teacher's process {message}"
        return ItemFailed(failure_class, text, host.log_tail(), host.popen.returncode, figures)

    def _fail(self, host: _Host, failed: Mapping[str, Any]) -> None:
        if failed["poisoned"]:
            self._bury(host)
        if failed["class"] == "environment":
            raise BrokenMachine(f"{failed['message']} ({self._program.device})")
        raise ItemFailed(failed["class"], failed["message"], failed["detail"], figures=failed["figures"])

    def _replace_if_due(self, host: _Host, figures: Mapping[str, Any]) -> None:
        host.measure(children=False)
        held = (host.rss_mb, float(figures.get("held_vram_mb") or host.vram_mb or 0))
        if host.first_held is None:
            host.first_held = held
        grown = max(now - first for now, first in zip(held, host.first_held, strict=True))
        if 0 < self._limits.leak_mb < grown:
            log.info("the teacher's process grew by %.0f MB over %d items and is replaced", grown, host.num_items)
            self.discard()
        elif 0 < self._limits.restart_after_items <= host.num_items:
            self.discard()

    def _write_reproducer(self, request: Mapping[str, Any], rgba_VHW4: npt.NDArray[np.uint8]) -> str:
        """Save the request that killed its host; returns the command that runs it alone."""
        folder = self._folder / "reproduce" / request["id"]
        folder.mkdir(parents=True, exist_ok=True)
        program = self._program
        loading = {"runtime": program.runtime, "settings": dict(program.settings), "device": program.device}
        with (folder / "request.bin").open("wb") as file:
            write_message(file, {"load": loading})
            write_message(file, {"generate": request}, {"rgba_VHW4": rgba_VHW4})
        variables = [f"{name}={shlex.quote(value)}" for name, value in program.environment.items()]
        command = [program.python, "-P", str(program_file.__file__), "--replay", str(folder)]
        text = " ".join([*variables, shlex.join(command)])
        (folder / "command.txt").write_text(text + "\n")
        return text


class _Host:
    """A host process and what is known of it."""

    def __init__(self, program: Program, log_file: Path) -> None:
        self._log = log_file
        with log_file.open("wb") as file:
            self.popen = subprocess.Popen(
                [program.python, "-P", str(program_file.__file__)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **program.environment},
            )
        self._process = psutil.Process(self.popen.pid)
        self.messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.num_items = 0
        self.rss_mb = self.peak_rss_mb = 0.0
        self.vram_mb: float | None = None
        self.peak_vram_mb: float | None = None
        self.first_held: tuple[float, float] | None = None
        self.memory_kills_before = _kernel_memory_kills()
        assert self.popen.stdout is not None
        threading.Thread(target=self._listen, args=(self.popen.stdout,), daemon=True).start()

    def send(self, head: Mapping[str, Any], arrays: Arrays | None = None) -> None:
        """Raises nothing for a dead host: the end of its stream says so."""
        assert self.popen.stdin is not None
        with suppress(BrokenPipeError):
            write_message(self.popen.stdin, head, arrays)

    def measure(self, *, children: bool) -> None:
        """Take down what the process holds now. children: and those it has started, which takes milliseconds."""
        try:
            family = [self._process, *(self._process.children(recursive=True) if children else [])]
            self.rss_mb = sum(member.memory_info().rss for member in family) / 2**20
        except psutil.Error:
            return
        self.peak_rss_mb = max(self.peak_rss_mb, self.rss_mb)
        self.vram_mb = process_vram_mb({member.pid for member in family})
        if self.vram_mb is not None:
            self.peak_vram_mb = max(self.peak_vram_mb or 0.0, self.vram_mb)

    def kill(self) -> None:
        """End it and whatever it started, and wait until its memory is free."""
        family = []
        with suppress(psutil.Error):
            family = psutil.Process(self.popen.pid).children(recursive=True)
        if self.popen.poll() is None:
            self.popen.kill()
        for member in family:
            with suppress(psutil.Error):
                member.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        if self.popen.returncode in (0, -signal.SIGKILL):
            return
        log.warning("a teacher's process ended with exit code %d; its log is %s", self.popen.returncode, self._log)

    def log_tail(self, size: int = 4000) -> str:
        return self._log.read_bytes()[-size:].decode(errors="replace") if self._log.is_file() else ""

    def _listen(self, stream: IO[bytes]) -> None:
        try:
            while (message := read_message(stream)) is not None:
                self.messages.put(message)
        except (ProtocolError, OSError, ValueError):
            log.exception("a teacher's process said something that is no message")
        self.messages.put(None)


def _cause(host: _Host, memory_kills: int) -> tuple[str, str]:
    """(class of failure, what to say) of a host that died of itself."""
    exit_code = host.popen.returncode
    if exit_code == -signal.SIGKILL:
        if memory_kills > 0:
            return "oom_host", "was killed by the kernel for want of memory"
        if host.peak_rss_mb > SUSPICIOUS_SHARE * psutil.virtual_memory().total / 2**20:
            return "oom_suspected", f"was killed while it held {host.peak_rss_mb:.0f} MB, most of this machine's memory"
        return "killed", "was killed by signal 9"
    if exit_code < 0:
        return "killed", f"died of {signal.Signals(-exit_code).name}"
    return "killed", f"ended with exit code {exit_code}"


def _kernel_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

"""Starts a teacher's host, watches it while it works, replaces it before it leaks and after it dies.

client = Client(Program(runtime="hunyuan3d", settings={...}, device="cuda:0"), HostLimits(), folder)
client.start()                                       # loads; raises Unavailable
figures, arrays = client.generate("1f00...", names, rgba_VHW4, settings, seed)    # raises ItemFailed, ...
"""

from __future__ import annotations

import logging
import shlex
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BrokenMachine, ItemFailed, Unavailable
from models.hosting import keeper
from models.hosting.log import HostLog, remove_abandoned
from models.hosting.messages import Arrays, write_message
from models.hosting.process import Ended, HostProcess, Message, Program, SpokeOutOfTurn

log = logging.getLogger(__name__)

WATCH_EVERY_S = 0.25
KEPT_LOGS = 5
"""Logs of hosts that died which a client leaves, the last ones."""


@dataclass(frozen=True)
class HostLimits:
    """When a host is replaced or killed. 0 means never.

    restart_after_items: replaced after so many items. leak_mb: replaced when, after an item, it holds so much more host
    or GPU memory than after its first item. memory_limit_mb: killed above so much host memory. silence_s: killed when
    for so long it neither answered, nor gave a sign of life, nor worked (used a processor or a disk).
    """

    restart_after_items: int = 0
    leak_mb: float = 2000
    memory_limit_mb: float = 0
    silence_s: float = 120


class Untrusted(ItemFailed):
    """An item failed because its host sent something else than its answer. The host has been ended."""


class Client:
    """The one host of a worker, and a stand-by interpreter that waits to take its place."""

    def __init__(self, program: Program, limits: HostLimits, folder: Path) -> None:
        """folder: where logs and reproducers are written."""
        self._program = program
        self._limits = limits
        self._folder = folder
        self._host: HostProcess | None = None
        self._standby: HostProcess | None = None
        self._logs_of_the_dead: deque[HostLog] = deque()
        self.ready: dict[str, Any] = {}
        """What the host said of itself when it had loaded: versions, the GPU's name and memory."""
        self.num_loads = 0
        remove_abandoned(folder)

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
            raise Unavailable(f"the teacher's process cannot be started: {error}") from error
        except Unavailable:
            self.close()
            raise

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
        self._end_unless_idle()
        fresh = self.fresh
        try:
            return self._ask(request, rgba_VHW4)
        except BrokenMachine as error:
            reason = f"the machine failed the teacher ({error})"
        except Untrusted as error:
            if fresh:
                raise
            reason = f"{error}, maybe by the fault of an earlier item"
        log.warning("%s; once more, in a new process", reason)
        return self._ask(request, rgba_VHW4)

    def discard(self) -> None:
        """End the host; the next item meets a fresh one."""
        if self._host is not None:
            self._end(self._host)

    def close(self) -> None:
        """End every process."""
        self.discard()
        if self._standby is not None:
            self._end(self._standby)

    def _end_unless_idle(self) -> None:
        """Replace a host that ended, or said something, after its last answer: that is not this item's fault."""
        if self._host is None:
            return
        try:
            self._host.check_idle()
        except Ended:
            _, text = self._host.cause_of_death()
            log.warning("the teacher's process %s between two items and is replaced", text)
            self._end(self._host, died=True)
        except SpokeOutOfTurn as error:
            log.warning("the teacher's process spoke out of turn between two items (%s) and is replaced", error)
            self._end(self._host)

    def _ask(self, request: Mapping[str, Any], rgba_VHW4: npt.NDArray[np.uint8]) -> tuple[dict[str, Any], Arrays]:
        host = self._loaded()
        try:
            host.ask({"generate": request}, {"rgba_VHW4": rgba_VHW4})
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

    def _loaded(self) -> HostProcess:
        if self._host is None:
            try:
                self.start()
            except Unavailable as error:
                if self.num_loads == 0:
                    raise
                raise BrokenMachine(f"the teacher ran here before and does not start any more: {error}") from error
        assert self._host is not None
        return self._host

    def _spawn(self) -> HostProcess:
        self._folder.mkdir(parents=True, exist_ok=True)
        return HostProcess(self._program, self._folder)

    def _load(self, host: HostProcess) -> None:
        try:
            host.ask(self._program.loading)
            if self._standby is None:
                self._standby = self._spawn()
            head, _ = self._await(host, ("ready", "unavailable"))
        except ItemFailed as failed:
            if failed.exit_code == keeper.CANNOT_START:
                raise Unavailable(
                    f"cannot start {self._program.python}: {failed.detail.strip()}; "
                    "`lostwax teacher setup NAME` makes the teacher's environment"
                ) from failed
            raise Unavailable(f"the teacher does not load: {failed}\n{failed.detail}".strip()) from failed
        if "unavailable" in head:
            self._end(host)
            raise Unavailable(head["unavailable"])
        self._host = host
        self.ready = head["ready"]
        host.pid = self.ready["pid"]
        self.num_loads += 1

    def _await(self, host: HostProcess, kinds: tuple[str, str]) -> Message:
        """The host's answer. Ends one that is silent, too large, or not to be trusted; raises ItemFailed."""
        limits = self._limits
        while True:
            try:
                answer = host.answer(WATCH_EVERY_S, kinds)
            except Ended:
                raise self._lost(host, *host.cause_of_death(), died=True) from None
            except SpokeOutOfTurn as error:
                raise self._lost(host, "teacher_error", f"spoke out of turn: {error}", Untrusted) from error
            if answer is not None:
                return answer
            host.measure()
            if 0 < limits.memory_limit_mb < host.rss_mb:
                held = f"held {host.rss_mb:.0f} MB, over run.teacher.memory_limit_mb"
                raise self._lost(host, "oom_host", held)
            if 0 < limits.silence_s < host.silent_s:
                raise self._lost(host, "timeout", f"gave no sign of life for {limits.silence_s:g} s")

    def _lost(
        self,
        host: HostProcess,
        failure_class: str,
        message: str,
        error: type[ItemFailed] = ItemFailed,
        *,
        died: bool = False,
    ) -> ItemFailed:
        """End the host; the error of the item that it was at. died: it had ended of itself."""
        self._end(host, died=died)
        figures = {"peak_rss_mb": host.peak_rss_mb, "peak_vram_mb": host.peak_vram_mb}
        text = f"the teacher's process {message}"
        return error(failure_class, text, host.log.tail, host.popen.returncode, figures)

    def _end(self, host: HostProcess, *, died: bool = False) -> None:
        """died: it ended of itself, so that its log is kept for a while."""
        host.end()
        if host is self._host:
            self._host = None
        if host is self._standby:
            self._standby = None
        if not died:
            host.log.remove()
            return
        file = f"; its log is {host.log.file}" if host.log.file.is_file() else ""
        log.warning("a teacher's process ended with exit code %d%s", host.popen.returncode, file)
        self._logs_of_the_dead.append(host.log)
        if len(self._logs_of_the_dead) > KEPT_LOGS:
            self._logs_of_the_dead.popleft().remove()

    def _fail(self, host: HostProcess, failed: Mapping[str, Any]) -> None:
        if failed["poisoned"]:
            self._end(host)
        if failed["class"] == "environment":
            raise BrokenMachine(f"{failed['message']} ({self._program.device})")
        raise ItemFailed(failed["class"], failed["message"], failed["detail"], figures=failed["figures"])

    def _replace_if_due(self, host: HostProcess, figures: Mapping[str, Any]) -> None:
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
        with (folder / "request.bin").open("wb") as file:
            write_message(file, self._program.loading)
            write_message(file, {"generate": request}, {"rgba_VHW4": rgba_VHW4})
        variables = [f"{name}={shlex.quote(value)}" for name, value in self._program.environment.items()]
        text = " ".join([*variables, shlex.join([*self._program.command, "--replay", str(folder)])])
        (folder / "command.txt").write_text(text + "\n")
        return text

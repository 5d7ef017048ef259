"""Starts a teacher's host, which nothing that it starts outlives: `PYTHON -I -S keeper.py PARENT PROGRAM ARGUMENTS...`.

It starts the program, waits until it ends, kills every process that it left behind and ends as it ended: with its exit
code, or by the same signal. SIGTERM and the end of the process PARENT kill the program. It must lead a session: what
the program left behind is what is of this session, or on Linux has become an orphan (which then is the keeper's child).

Needs the standard library only, and imports nothing of lostwax.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CANNOT_START = 127
"""Exit code when the program cannot be started, as shells have it. Standard error says why."""
SIGNALS = (signal.SIGTERM, signal.SIGCHLD)
CLEARING_S = 5.0
"""How long it tries to kill what was left behind: a process may be stuck in a driver."""
CLEAR_EVERY_S = 0.005


def main() -> int:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if sys.platform == "linux":
        parent_death_signal, child_subreaper = 1, 36
        prctl = ctypes.CDLL(None).prctl
        prctl(parent_death_signal, signal.SIGTERM)
        prctl(child_subreaper, 1)
    if os.getppid() != parent:
        return 1  # it ended before it could be watched
    try:
        program = os.posix_spawnp(command[0], command, os.environ, setsigmask=(), setsigdef=(signal.SIGPIPE,))
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
        return CANNOT_START
    let_go_of_the_pipes()
    status = wait_for(program)
    kill_what_is_left()
    return end_as(status)


def let_go_of_the_pipes() -> None:
    """They are the program's: its parent must see them end with it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def wait_for(program: int) -> int:
    """The status with which it ended."""
    while True:
        if signal.sigwait(SIGNALS) == signal.SIGTERM:
            os.kill(program, signal.SIGKILL)
        for pid, status in reaped():
            if pid == program:
                return status


def reaped() -> Iterator[tuple[int, int]]:
    """(pid, status) of the children that have ended."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def kill_what_is_left() -> None:
    deadline = time.monotonic() + CLEARING_S
    while time.monotonic() < deadline:
        list(reaped())
        if not (pids := left_behind()):
            return
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(CLEAR_EVERY_S)


def left_behind() -> list[int]:
    """This process's children, those that it has yet to reap among them, and all others that run in its session."""
    own, pids = os.getpid(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, _, session = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # it has just ended
        pid = int(folder.name)
        if int(parent) == own or (int(session) == own and pid != own and state != "Z"):
            pids.append(pid)
    return pids


def end_as(status: int) -> int:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program's own dump, if it left one, is the one to keep
        with suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os.kill(os.getpid(), number)
    return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())

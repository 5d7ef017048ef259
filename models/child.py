"""What a child process does first that is spoken to over its standard streams, and must not outlive who started it.

Needs the standard library only: it runs in the teachers' own environments too.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import sys
from typing import IO


def begin() -> tuple[IO[bytes], IO[bytes]]:
    """Descriptors of its own for the protocol (reading, writing): whatever else prints goes to standard error.

    Whatever else reads finds nothing. Signals to the whole group are the parent's affair; when the parent dies, so does
    this process (on Linux, at once).
    """
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
    reading, writing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return reading, writing

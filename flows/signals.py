"""Signals that ask a run to stop: they end it in order, and never in the middle of what must be written whole.

While a stage's workers run, the stage itself takes them (tasks.engine.dispatch). A flow run raises Prefect's
TerminationSignal for SIGTERM, and then passes it on to the handler that was there before: by default, the end at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

END = (signal.SIGTERM, signal.SIGHUP)
STOP = (*END, signal.SIGINT)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP raise TerminationSignal, as Ctrl-C raises KeyboardInterrupt."""
    from prefect.exceptions import TerminationSignal

    def end(number: int, _: FrameType | None) -> None:
        raise TerminationSignal(number)

    with _handling(END, end):
        yield


@contextmanager
def postponing_signals() -> Iterator[None]:
    """What would stop the process is taken at the end of the block."""
    came: list[int] = []
    try:
        with _handling(STOP, lambda number, _: came.append(number)):
            yield
    finally:
        if came:
            os.kill(os.getpid(), came[0])


@contextmanager
def _handling(numbers: tuple[signal.Signals, ...], handler: signal._HANDLER) -> Iterator[None]:
    """Only the main thread may install handlers; another one is not interrupted by signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)

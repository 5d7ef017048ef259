"""How a stage ends: exit codes, the errors that end it, and the figures that people and scripts are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OK, FAILED, WRONG_USAGE, TOO_MANY_FAILED, HELD, STOPPED = range(6)
"""Exit codes: done, failed, wrong usage, too many items failed, held by another run, stopped and resumable."""


def counted(number: int, what: str = "item") -> str:
    """`1 item`, `2 items`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def some_of(names: Sequence[str], most: int) -> str:
    """`a, b and 3 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


class StageFailed(Exception):
    """The stage cannot go on; what is finished is safe. The message says why and what to do."""


class Stopped(Exception):
    """Stopped by a budget, a signal or the gate; the same command resumes."""


@dataclass(frozen=True)
class Progress:
    """Where a running stage stands. rate: items a second; left_s: an estimate, None before the first item."""

    stage: str
    done: int
    failed: int
    total: int
    rate: float
    left_s: float | None
    text: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended. computed: items finished by this run; recovered: saved from a run that died. idle: it had
    nothing to do, because nobody needs what it makes. notices: what people should know of the collection besides;
    sentences."""

    stage: str
    exit_code: int
    total: int
    done: int
    computed: int
    recovered: int
    exhausted: int
    skipped: int
    blocked: int
    seconds: float
    message: str = ""
    idle: bool = False
    notices: tuple[str, ...] = ()

    def line(self) -> str:
        """One line for people."""
        if self.idle:
            return f"{self.stage:<9} {self.message}"
        counts = [(self.exhausted, "exhausted"), (self.skipped, "skipped"), (self.blocked, "blocked")]
        computed = f"{self.computed} computed" + (f", {self.recovered} recovered" if self.recovered else "")
        parts = [f"{self.done} done ({computed})", *(f"{count} {word}" for count, word in counts if count)]
        text = f"{self.stage:<9} {', '.join(parts)} of {self.total} in {self.seconds:.1f} s"
        return f"{text}: {self.message}" if self.message else text

"""The out-of-memory ladder: which settings an item starts with, learnt from how earlier ones fared on the same GPU.

Rung 0 is the teacher's own block; rung r > 0 is that block with the r-th entry of `ladder` over it. What an item needs
grows with its size (a teacher's measure of it, such as the share of the image that the object covers), though not
strictly: at each rung the sizes are parted by the threshold that misjudges fewest of the last items.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

REMEMBERED = 200
"""Items a rung that are remembered: a threshold follows a card that is shared with others."""


@dataclass(frozen=True)
class Evidence:
    """How an item of this size fared at a rung, in a process that had done nothing before."""

    rung: int
    size: float
    fits: bool


class Ladder:
    """What is known of each rung on one GPU."""

    def __init__(self, num_rungs: int, evidence: Iterable[Evidence] = ()) -> None:
        self.num_rungs = num_rungs
        self._seen: list[deque[Evidence]] = [deque(maxlen=REMEMBERED) for _ in range(num_rungs)]
        self._limits: list[float | None] = [None] * num_rungs
        for one in evidence:
            self.add(one)

    def add(self, evidence: Evidence) -> None:
        if evidence.rung < self.num_rungs:
            self._seen[evidence.rung].append(evidence)
            self._limits[evidence.rung] = None

    def start(self, size: float) -> int:
        """The best rung at which an item of this size is expected to fit; the last where none is."""
        return next((rung for rung in range(self.num_rungs) if size < self._limit(rung)), self.num_rungs - 1)

    def _limit(self, rung: int) -> float:
        """The size from which on items do not fit."""
        limit = self._limits[rung]
        if limit is None:
            limit = self._limits[rung] = self._best_limit(rung)
        return limit

    def _best_limit(self, rung: int) -> float:
        """The largest of the limits that misjudge fewest."""
        if all(one.fits for one in self._seen[rung]):
            return float("inf")
        ordered = sorted(self._seen[rung], key=lambda one: one.size)
        wrong = best = sum(one.fits for one in ordered)  # limit at or under all sizes: every fit is misjudged
        limit = ordered[0].size if ordered else float("inf")
        for index, one in enumerate(ordered):
            wrong += -1 if one.fits else 1
            following = ordered[index + 1].size if index + 1 < len(ordered) else float("inf")
            if following > one.size and wrong <= best:
                best, limit = wrong, following
        return limit

"""Which student `train` wants once items have come or gone: train.on_new_data (docs/decisions/0008-new-data.md).

A finished student is *current* while the key that is made now, of the items it was trained on and of the weights it
went out from, is its own: they are all there unchanged, and so are params and versions. Nothing else is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tasks.collections.records import Record
from tasks.engine.stage import Json

OnNewData = Literal["retrain", "warm_start", "pin"]


@dataclass(frozen=True)
class Start:
    """A warm start. weights: sha256 of the published student's that it goes out from. epochs: of its schedule."""

    weights: str
    epochs: int

    def to_json(self) -> dict[str, Json]:
        """As it stands in the facts of the student's record."""
        return {"warm_from": self.weights, "warm_epochs": self.epochs}

    @staticmethod
    def of(record: Record) -> Start | None:
        """That of a finished student; None for one that was trained from scratch."""
        return Start(record.facts["warm_from"], record.facts["warm_epochs"]) if "warm_from" in record.facts else None


@dataclass(frozen=True)
class Choice:
    """What is trained on, and from which weights. note, outlook, settled: those of `Wanted`."""

    items: frozenset[str]
    start: Start | None = None
    note: str = ""
    outlook: str = ""
    settled: bool = False


class Chooser:
    """Chooses among the students that are finished, a warm start and a training from scratch."""

    def __init__(
        self,
        items: Iterable[str],
        settings: Json,
        key: Callable[[frozenset[str], Start | None], str],
        stored: Sequence[Record],
        published: Record | None,
    ) -> None:
        """items: ids to train and validate on, as things stand. settings, key: the student's, and what its key would
        be. stored: the finished students of these settings here. published: the last published one, here or not."""
        self._items, self._settings, self._key, self._stored = frozenset(items), settings, key, stored
        self._published = published

    def retrain(self) -> Choice:
        """Everything from scratch: what is trained depends on data, params and versions alone."""
        warm = self._published is not None and Start.of(self._published) and self._is_current(self._published)
        return Choice(self._items, note="trained anew, not warm-started (train.on_new_data: retrain)" if warm else "")

    def pin(self) -> Choice:
        """A current student, the published one first; else everything from scratch."""
        mode = "(train.on_new_data: pin)"
        best = self._first(self._current)
        if best is None:
            return Choice(self._items, note=self._why_anew(mode))
        kept = trained_on(best)
        num_new = len(self._items - kept)
        note = f"{num_new} new item{'s' * (num_new != 1)}, left out {mode}" if num_new else ""
        return Choice(kept, Start.of(best), note, f"new items are left out {mode}", settled=True)

    def warm_start(self, epochs: int, fits: Callable[[Record], bool]) -> Choice:
        """A current student that knows all items; else everything, starting from the published one if it is current.

        fits: whether a student made for the present items has the shape of this one.
        """
        mode = "(train.on_new_data: warm_start)"
        usable = next((record for record in self._current if self._is_published(record)), None)
        outlook = f"new items: {_words(usable, epochs)} {mode}" if usable else ""
        best = self._first([record for record in self._current if trained_on(record) == self._items])
        if best is not None:
            return Choice(self._items, Start.of(best), outlook=outlook)
        if usable is None:
            return Choice(self._items, note=self._why_anew(mode))
        if not fits(usable):
            return Choice(self._items, note=f"trained anew: its student is of another shape {mode}", outlook=outlook)
        num_new = len(self._items - trained_on(usable))
        note = f"{num_new} new item{'s' * (num_new != 1)}: {_words(usable, epochs)} {mode}"
        return Choice(self._items, Start(weights_of(usable), epochs), note, outlook)

    @cached_property
    def _current(self) -> list[Record]:
        return [record for record in self._stored if self._is_current(record)]

    def _is_current(self, record: Record) -> bool:
        items = trained_on(record)
        if not items or not items <= self._items:
            return False
        return self._key(items, Start.of(record)) == record.key

    def _is_published(self, record: Record) -> bool:
        return self._published is not None and record.key == self._published.key

    def _first(self, records: Sequence[Record]) -> Record | None:
        """The published one; else the one that knows most items, trained from scratch rather than not."""

        def order(record: Record) -> tuple[bool, int, bool, str]:
            return not self._is_published(record), -len(trained_on(record)), Start.of(record) is not None, record.key

        return min(records, key=order, default=None)

    def _why_anew(self, mode: str) -> str:
        """Why the published student is of no use; nothing where there is none."""
        found = self._published
        if found is None or found.key == self._key(self._items, None):
            return ""
        if not trained_on(found):
            return f"trained anew: the published student does not say what it was trained on {mode}"
        if found.facts.get("settings") != self._settings:
            return f"trained anew: params or versions have changed {mode}"
        if self._is_current(found):
            return f"trained anew: the published student's bytes are not here; `dvc checkout` may bring them {mode}"
        if gone := len(trained_on(found) - self._items):
            what = "item that it was trained on is" if gone == 1 else "items that it was trained on are"
            return f"trained anew: {gone} {what} gone, or no longer accepted by the gate {mode}"
        return f"trained anew: items that it was trained on have changed {mode}"


def trained_on(record: Record) -> frozenset[str]:
    """Ids of the items that a finished student was trained and validated on; none where its record does not say."""
    return frozenset(record.facts.get("items", ()))


def weights_of(record: Record) -> str:
    """sha256 of a finished student's weights."""
    return record.files["student.safetensors"].sha256


def _words(record: Record, epochs: int) -> str:
    return f"warm start from {weights_of(record)[:8]}, {epochs} epoch{'s' * (epochs != 1)}"

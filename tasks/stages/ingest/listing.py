"""What the sources offer: the items, and the files that are none."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from models import plugins
from tasks.collections.files import readable
from tasks.engine.outcome import some_of
from tasks.engine.stage import Json
from tasks.stages.sources import Found, Ignored, SourceParams, summary

log = logging.getLogger(__name__)

DUPLICATE = "with the bytes of another"
MOST_KINDS, MOST_NAMES = 50, 3
"""Kinds of files that are not taken, and files of each, that metrics.json tells."""


@dataclass
class Listing:
    """items: by id, in the order of the sources. ignored: the files that are no items, duplicates among them.

    not_utf8: names, as far as they are known, that are not UTF-8.
    """

    items: dict[str, Found] = field(default_factory=dict)
    ignored: list[Ignored] = field(default_factory=list)
    not_utf8: list[str] = field(default_factory=list)

    def add(self, entry: Found | Ignored) -> None:
        """Take an item, unless one has its bytes; the same file once more, through another source, is no duplicate."""
        if _is_not_utf8(entry):
            self.not_utf8.append(readable(entry.path) if isinstance(entry, Ignored) else entry.label)
        if isinstance(entry, Ignored):
            self._ignore(Ignored(readable(entry.path), entry.what))
            return
        first = self.items.setdefault(entry.id, entry)
        if first is not entry and first.payload != entry.payload:
            self._ignore(Ignored(f"{entry.label} (of {first.label})", DUPLICATE))

    def _ignore(self, entry: Ignored) -> None:
        log.debug("ingest: not taken: %s: %s", entry.path, entry.what)
        self.ignored.append(entry)

    def notices(self) -> list[str]:
        """What people should know."""
        words = [f"not taken: {summary(self.ignored)}"] if self.ignored else []
        if self.not_utf8:
            names = some_of(self.not_utf8, MOST_NAMES)
            words.append(f"DVC fails at file names that are not UTF-8, and so does `dvc repro`: rename {names}")
        return words

    def to_json(self) -> dict[str, Json]:
        """For metrics.json."""
        paths: dict[str, list[str]] = {}
        for entry in self.ignored:
            paths.setdefault(entry.what, []).append(entry.path)
        ordered = sorted(paths.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        return {
            "num_not_taken": len(self.ignored),
            "num_unreadable": sum(item.problem is not None for item in self.items.values()),
            "not_taken": [
                {"what": what, "count": len(found), "first": found[:MOST_NAMES]} for what, found in ordered[:MOST_KINDS]
            ],
        }


def _is_not_utf8(entry: Found | Ignored) -> bool:
    """Whether a name in it is not; of an item, only one with an escape in its label can have such a name."""
    if isinstance(entry, Found) and "\\" not in entry.label:
        return False
    try:
        (entry.path if isinstance(entry, Ignored) else json.dumps(entry.payload, ensure_ascii=False)).encode()
    except UnicodeEncodeError:
        return True
    return False


def list_items(sources: Iterable[SourceParams], inbox: Path, digest: Callable[[Path], str]) -> Listing:
    """The items of all sources in turn. Raises what a source raises where there is nothing to find."""
    listing = Listing()
    for params in sources:
        for entry in plugins.load("sources", params.source).find(params, inbox, digest):
            listing.add(entry)
    return listing

"""Where items come from. A source is one module of this package and one entry of `ingest.sources`:

    class Params(SourceParams):                                     # its entry's keys, with defaults
        source: Literal["mine"] = "mine"

    def find(params, inbox, digest) -> Iterator[Found | Ignored]:
        ...                                     # in the planner: list only, open no mesh, no photo

    def load(payload, max_bytes) -> Loaded:
        ...                                     # in the worker: read what one Found's payload names

`digest` is the sha256 of a file, remembered as long as its size and times stay. `find` runs before every ingest, so it
must be quick for 100,000 files and yield in a stable order. Where there is nothing to find it raises ValueError, saying
what to do: nothing takes the place of what the user named.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.errors import BadInput
from models.normalise import MeshFile, UpAxis
from models.params import Block
from models.stand_ins import stand_in
from tasks.collections.files import readable

Kind = Literal["mesh", "photo", "photo_set"]
SplitName = Literal["train", "val", "test"]

Inputs = tuple[tuple[str, str], ...]


class SourceParams(Block):
    """The base of every source's params."""

    source: str
    """The plug-in's name."""


@dataclass(frozen=True, slots=True)
class Found:
    """One item that a source offers.

    inputs: (role, sha256) of every file, by which the item is known. label: printable; mostly a path without suffix.
    group: items of one group land in one split; None for all items of this label. split: where the source says it.
    payload: JSON that `load` is given. up_axis: None where the source does not say it. problem: why the item cannot be
    loaded, where the listing already knows; it then fails alone.
    """

    inputs: Inputs
    label: str
    class_name: str
    source: str
    kind: Kind
    payload: Any
    group: str | None = None
    split: SplitName | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    licence: str = "unstated"
    up_axis: UpAxis | None = None
    problem: str | None = None

    @property
    def id(self) -> str:
        """16 hex of the digest of the files and their roles: names and places do not matter."""
        content = "\n".join(f"{role}\0{sha256}" for role, sha256 in sorted(self.inputs))
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that is no item. what: it and its like by which they are counted: `.fbx (export as .glb)`."""

    path: str
    what: str


def summary(ignored: Iterable[Ignored], most: int = 6) -> str:
    """`3 .fbx (export as .glb), 2 .txt and 4 more`: the files by what they are, the most frequent first."""
    counts = Counter(entry.what for entry in ignored)
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    more = sum(count for _, count in ordered[most:])
    listed = ", ".join(f"{count} {what}" for what, count in ordered[:most])
    return f"{listed} and {more} more" if more else listed


@dataclass(frozen=True)
class Loaded:
    """The bytes of one item: a mesh, or photos by view. labels are added to those of its Found."""

    mesh: MeshFile | None = None
    photos: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)


def read_expected(path: Path, sha256: str, max_bytes: int) -> bytes:
    """Bytes of a file that was listed with this digest. Raises BadInput: too large, gone, changed or never fetched."""
    name = readable(path.name)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise BadInput(f"{name} has {size / 1e6:.0f} MB, the limit is {max_bytes / 1e6:.0f} (ingest.max_file_mb)")
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{readable(str(path))} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadInput(f"{readable(str(path))} changed while it was being ingested; run again")
    if found := stand_in(data):
        raise BadInput(f"{name} is {found}")
    return data

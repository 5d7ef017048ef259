"""Where items come from. A source is one module of this package and one entry of `ingest.sources`:

    class Params(SourceParams):                                     # its entry's keys, with defaults
        source: Literal["mine"] = "mine"

    def find(params, inbox, digest) -> Iterator[Found | Ignored]:
        ...                                     # in the planner: list only, open no mesh, no photo

    def load(payload, max_bytes) -> Loaded:
        ...                                     # in the worker: read what one Found's payload names

`digest` is the sha256 of a file, remembered as long as its size and times stay. `find` runs before every ingest, so it
must be quick for 100,000 files and yield in a stable order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.errors import BadInput
from models.normalise import MeshFile, UpAxis
from models.params import Block

Kind = Literal["mesh", "photo", "photo_set"]

Inputs = tuple[tuple[str, str], ...]


class SourceParams(Block):
    """The base of every source's params."""

    source: str
    """The plug-in's name."""


@dataclass(frozen=True, slots=True)
class Found:
    """One item that a source offers.

    inputs: (role, sha256) of every file, by which the item is known. label: readable; mostly a path without suffix.
    group: items of one group land in one split; None for the item's own. payload: JSON that `load` is given.
    problem: why the item cannot be loaded, where the listing already knows; it then fails alone.
    """

    inputs: Inputs
    label: str
    class_name: str
    source: str
    kind: Kind
    payload: Any
    group: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    licence: str = "unstated"
    up_axis: UpAxis = "y"
    problem: str | None = None

    @property
    def id(self) -> str:
        """16 hex of the digest of the files and their roles: names and places do not matter."""
        content = "\n".join(f"{role}\0{sha256}" for role, sha256 in sorted(self.inputs))
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that is no item, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """The bytes of one item: a mesh, or photos by view. labels are added to those of its Found."""

    mesh: MeshFile | None = None
    photos: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)


def read_expected(path: Path, sha256: str, max_bytes: int) -> bytes:
    """Bytes of a file that was listed with this digest. Raises BadInput when it is too large, gone or changed."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise BadInput(
                f"{path.name} has {size / 1e6:.0f} MB, the limit is {max_bytes / 1e6:.0f} (ingest.max_file_mb)"
            )
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadInput(f"{path} changed while it was being ingested; run again")
    return data

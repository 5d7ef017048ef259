"""Casts: what a teacher or a student makes of an item. Its kind decides how it is stored, measured, shown and exported.

A kind is one module here (or a plug-in of the group `lostwax.casts`), named as it is in records, with

    CAST: type                                                       # the class of its casts
    def to_files(cast) -> dict[str, bytes]: ...                      # as a collection stores it, each named KIND.x
    def from_files(files: Mapping[str, bytes]) -> CAST: ...
    def as_stored(cast) -> CAST: ...                                 # in its files' types; EmptyOutput names a field
    def check(cast) -> dict[str, Json]: ...                          # figures for the record; EmptyOutput if unusable
    def check_frame(cast) -> None: ...                               # EmptyOutput where it leaves the canonical box
    METRICS: tuple[Metric, ...]                                      # models/metric.py, the leading one first
    def measure(cast, exam: Exam) -> dict[str, float]: ...           # models/exam.py; {} where nothing applies
    def surface(cast) -> Mesh | None: ...                            # a mesh of it, where it has one
    def rendering(cast, cameras, size_px) -> RGBA_VHW4 | None: ...   # pictures of it, uint8, straight alpha
    def describe(cast) -> str: ...                                   # its size, in words
    EXPORTS: Mapping[str, Callable[[CAST], bytes]]                   # file formats by suffix, the usual one first

What needs a surface asks `surface`, what needs pictures asks `rendering`: kinds that never heard of each other meet
there.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from models import plugins
from models.metric import Metric

PARTS = ("accuracy", "completeness")
"""Halves of the Chamfer distance, which short tables leave out."""

MESH = "mesh"
"""The kind that says most of an object."""

Cast = object
"""An instance of some kind's CAST class, in the canonical frame."""


def kind_of(cast: Cast) -> ModuleType:
    """The kind's module. Raises TypeError for what is of no kind."""
    for name in plugins.known("casts"):
        kind = plugins.load("casts", name)
        if isinstance(cast, kind.CAST):
            return kind
    raise TypeError(f"{type(cast).__name__} is of no kind of cast; there are: {', '.join(plugins.known('casts'))}")


def files_of(cast: Cast) -> dict[str, bytes]:
    """As a collection stores it. Raises TypeError where its kind names a file so that no record could tell its kind."""
    kind = kind_of(cast)
    files: dict[str, bytes] = kind.to_files(cast)
    if stray := [name for name in files if not name.startswith(f"{name_of(kind)}.")]:
        raise TypeError(f"files of the kind {name_of(kind)} are named {name_of(kind)}.SOMETHING, not {stray[0]}")
    return files


def stored_kinds(names: Iterable[str]) -> dict[str, list[str]]:
    """The casts among the files of a record: names of files by kind, a mesh first."""
    files = sorted(names)
    kinds = sorted(plugins.known("casts"), key=lambda kind: (kind != MESH, kind))
    found = {kind: [name for name in files if name.startswith(f"{kind}.")] for kind in kinds}
    return {kind: own for kind, own in found.items() if own}


def known_metrics() -> list[Metric]:
    """The metrics of all kinds, each name once."""
    metrics = [metric for name in plugins.known("casts") for metric in plugins.load("casts", name).METRICS]
    return list({metric.name: metric for metric in reversed(metrics)}.values())[::-1]


def name_of(kind: ModuleType) -> str:
    """The kind's name, as it stands in records."""
    return next(name for name in plugins.known("casts") if plugins.load("casts", name) is kind)

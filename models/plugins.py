"""Plug-ins are found by name: `load("teachers", "visual_hull")` is the module `models.teachers.visual_hull`.

A plug-in is one module (or package) in its family's folder, or one that another installed package declares as an entry
point of the group `lostwax.FAMILY`, and one block in params.yaml. It has a `Params` model (its block) and a
`create(params, ...)` that the family's `__init__` types. The result version of one of ours is in versions.yaml, that of
another package's is the VERSION of its module. Importing it must stay light: torch,
GL and the like are imported inside functions, so that planning can validate params in milliseconds.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Mapping
from types import ModuleType

from models.names import there_are

FAMILIES = {
    "sources": "tasks.stages.sources",
    "mattes": "models.mattes",
    "encoders": "models.encoders",
    "depths": "models.depths",
    "teachers": "models.teachers",
    "students": "models.students",
}
KINDS = "casts"
"""Kinds of cast are found as plug-ins are, and have neither params nor a version of their own: models/casts."""
_PACKAGES = {**FAMILIES, KINDS: "models.casts"}


def known(family: str) -> list[str]:
    """Names of the family's plug-ins, sorted."""
    return sorted({*_own(family), *_declared(family)})


def load(family: str, name: str) -> ModuleType:
    """The plug-in's module. Raises ValueError naming the known ones."""
    if name in _own(family):
        return importlib.import_module(f"{_PACKAGES[family]}.{name}")
    declared = _declared(family)
    if name in declared:
        return importlib.import_module(declared[name])
    raise ValueError(f"unknown plug-in {name!r} in {family}; {there_are(known(family), name)}")


def result_version(entry: str, versions: Mapping[str, int]) -> int | str:
    """The number of a stage or plug-in ("teach", "teachers.visual_hull"); another package's plug-in brings its own."""
    family, _, name = entry.rpartition(".")
    brought = version(family, name) if family else None
    return versions.get(entry, 1) if brought is None else brought


def version(family: str, name: str) -> int | str | None:
    """The result version of a plug-in that another package brings: its module's VERSION, 1 without one.

    None for ours, whose numbers are in versions.yaml. Raises ValueError for a VERSION that is neither number nor text.
    """
    if name in _own(family) or name not in _declared(family):
        return None
    found = getattr(load(family, name), "VERSION", 1)
    if not isinstance(found, int | str):
        raise ValueError(f"plug-in {name!r} in {family}: its VERSION must be a whole number or text, not {found!r}")
    return found


@functools.cache
def _own(family: str) -> frozenset[str]:
    package = importlib.import_module(_PACKAGES[family])
    return frozenset(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))


@functools.cache
def _declared(family: str) -> dict[str, str]:
    """Module by name of the plug-ins that other packages bring."""
    return {point.name: point.value for point in importlib.metadata.entry_points(group=f"lostwax.{family}")}

"""Plug-ins are found by name: `load("teachers", "visual_hull")` is the module `models.teachers.visual_hull`.

A plug-in is one module (or package) in its family's folder and one block in params.yaml. It has a `Params` model
(its block) and a `create(params, context)` that the family's `__init__` types. Importing it must stay light: torch,
GL and the like are imported inside functions, so that planning can validate params in milliseconds.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

FAMILIES = {
    "sources": "tasks.sources",
    "mattes": "models.mattes",
    "encoders": "models.encoders",
    "depths": "models.depths",
    "teachers": "models.teachers",
    "students": "models.students",
}


def known(family: str) -> list[str]:
    """Names of the family's plug-ins, sorted."""
    package = importlib.import_module(FAMILIES[family])
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__) if not info.name.startswith("_"))


def load(family: str, name: str) -> ModuleType:
    """The plug-in's module. Raises ValueError naming the known ones."""
    names = known(family)
    if name not in names:
        raise ValueError(f"unknown plug-in {name!r} in {family}; there are: {', '.join(names)}")
    return importlib.import_module(f"{FAMILIES[family]}.{name}")

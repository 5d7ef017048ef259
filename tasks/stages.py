"""The stages in their order."""

from __future__ import annotations

import importlib

from tasks.stage import Stage

CLASSES = {
    "ingest": "tasks.ingest:Ingest",
    "views": "tasks.views:Views",
    "matte": "tasks.matte:Matte",
    "features": "tasks.features:Features",
    "teach": "tasks.teach:Teach",
    "gate": "tasks.gate:Gate",
    "train": "tasks.train:Train",
    "evaluate": "tasks.evaluate:Evaluate",
    "report": "tasks.report:Report",
}
ORDER = tuple(CLASSES)


def load_class(reference: str) -> type[Stage]:
    """The class behind "module:Class"."""
    module, _, name = reference.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise TypeError(f"{reference} is no Stage")
    return found


def load_stage(name: str) -> Stage:
    """The stage of that name. Raises ValueError naming the known ones."""
    if name not in CLASSES:
        raise ValueError(f"unknown stage {name!r}; there are: {', '.join(ORDER)}")
    return load_class(CLASSES[name])()


def reference(stage: Stage) -> str:
    """The inverse of load_class: how a worker process is told which stage to load."""
    return f"{type(stage).__module__}:{type(stage).__qualname__}"

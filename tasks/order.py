"""The stages in their order."""

from __future__ import annotations

from models.names import there_are
from tasks.engine.stage import Stage, load_class

CLASSES = {
    "ingest": "tasks.stages.ingest:Ingest",
    "views": "tasks.stages.views:Views",
    "matte": "tasks.stages.matte:Matte",
    "features": "tasks.stages.features:Features",
    "teach": "tasks.stages.teach:Teach",
    "gate": "tasks.stages.gate:Gate",
    "fields": "tasks.stages.fields:Fields",
    "train": "tasks.stages.train:Train",
    "evaluate": "tasks.stages.evaluate:Evaluate",
    "report": "tasks.stages.report:Report",
}
ORDER = tuple(CLASSES)


def load_stage(name: str) -> Stage:
    """The stage of that name. Raises ValueError naming the known ones."""
    if name not in CLASSES:
        raise ValueError(f"unknown stage {name!r}; {there_are(ORDER, name)}")
    return load_class(CLASSES[name])()

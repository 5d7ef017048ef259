"""Objects that students are compared on: a workspace of them, trainings in this process, and the scores of casts."""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from models import plugins
from models.errors import EmptyOutput
from models.geometry import Mesh
from models.metrics import Surface, compare
from models.needs import FIELD, TEACHER, TOKENS, TRUTH, VIEWS, Given, InHand
from models.student import Student
from models.students import Spec
from models.training.engine import Job, TrainingResult, train
from models.training.feeds import Listed
from models.training.recipe import Recipe
from models.training.weights import load_trained
from tasks.engine.worker import open_upstream
from tasks.params import Params, load_params
from tasks.stages import catalog
from tasks.stages.catalog import StoredItem
from tasks.workspace import Workspace

log = logging.getLogger("subjects")

LOSTWAX = str(Path(sys.executable).parent / "lostwax")
STAGES = ("ingest", "views", "matte", "features", "teach", "gate", "fields")
NEEDS = (TOKENS, VIEWS, FIELD, TRUTH, TEACHER)
REAL = Path("../shared/data")
SECONDS = "cpu_seconds.json"
NOTHING = {"chamfer": 0.5, "iou": 0.0}
"""What a method scores that casts nothing."""


@dataclass(frozen=True)
class Subject:
    """An object, with what is known of it."""

    item: StoredItem | InHand
    label: str
    split: str
    generated: bool

    def in_hand(self) -> Subject:
        """With everything read."""
        return self if isinstance(self.item, InHand) else replace(self, item=self.item.in_hand())


@dataclass(frozen=True)
class Trained:
    """A student that has learned, and the CPU seconds that it took."""

    student: Student
    result: TrainingResult
    seconds: float


def prepared(folder: Path, name: str, count: int) -> Workspace:
    """A workspace whose stages up to fields are done."""
    workspace = Workspace(folder)
    if not workspace.params_file.is_file():
        subprocess.run([LOSTWAX, "init", str(folder)], check=True, stdout=sys.stderr)
        raw = yaml.safe_load(workspace.params_file.read_text())
        generated = {"source": "generated", "shape": "eyeglasses" if name == "eyeglasses" else "shoe", "count": count}
        sources: list[dict[str, Any]] = [generated]
        if name == "real":
            sources.insert(0, {"source": "folder", "include": ["*.glb"]})
        raw["ingest"] |= {"sources": sources, "split": {"val": 0.1, "test": 0.22}}
        raw["fields"] = {**(raw.get("fields") or {}), "when": "always"}
        if name == "real":
            raw["ingest"]["inbox"] = str(REAL.resolve())
        if name == "eyeglasses":
            raw["views"]["size_px"] = raw["matte"]["size_px"] = 256
        workspace.params_file.write_text(yaml.safe_dump(raw, sort_keys=False))
    for stage in STAGES:
        before = _seconds_of_children()
        subprocess.run([sys.executable, "-P", "-m", "tasks", stage], cwd=folder, check=True, stdout=sys.stderr)
        _note_seconds(folder, stage, _seconds_of_children() - before)
    return workspace


def stage_seconds(workspace: Workspace) -> dict[str, float]:
    """CPU seconds of each stage's first run to its end, its workers' and their start included."""
    path = workspace.root / SECONDS
    found: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def read_subjects(workspace: Workspace) -> list[Subject]:
    """All items of the workspace that have what both students learn from."""
    params = load_params(workspace.params_file)
    upstreams = {name: open_upstream(workspace, name) for name in (*catalog.all_stages(), "gate")}
    read, subjects = catalog.reader(upstreams), []
    for item_id, ingested in sorted(upstreams["ingest"].records.items()):
        records = catalog.records_of(item_id, upstreams)
        if catalog.lacks(NEEDS, records, params):
            continue
        facts = ingested.facts
        item = StoredItem(item_id, records, NEEDS, params, read)
        subjects.append(Subject(item, facts["label"], facts["split"], facts["source"] == "generated"))
    return subjects


def trained(
    name: str,
    items: Sequence[Given],
    spec: Spec,
    recipe: Recipe,
    *,
    params: Mapping[str, Any] | None = None,
    validation: Sequence[Given] = (),
    clock: Callable[[], float] = time.process_time,
) -> Trained:
    """A student that has learned from the items. params: of its block, the defaults elsewhere."""
    plugin = plugins.load("students", name)
    student: Student = plugin.create(plugin.Params(**(params or {})), spec, seed=recipe.seed)
    started = clock()
    with tempfile.TemporaryDirectory() as folder:
        validated = Listed(validation, student.example) if validation else None
        result = train(student, Listed(items, student.example), validated, recipe, Job(Path(folder), feed="resident"))
    seconds = clock() - started
    load_trained(student, result.state)
    return Trained(student, result, seconds)


def common_spec(subjects: Sequence[Subject], params: Params) -> Spec:
    """What the items have in common."""
    records = [stored(subject).records for subject in subjects]
    forms = {need.name: catalog.form_of(need, records, params) for need in NEEDS}
    return Spec({name: form for name, form in forms.items() if form is not None})


def score(cast: Callable[[Subject], Mesh], subject: Subject, truth: Surface) -> Mapping[str, float]:
    """Chamfer, IoU and milliseconds; a method that casts nothing scores as badly as can be."""
    started = time.perf_counter()
    try:
        mesh = cast(subject)
    except EmptyOutput as error:
        log.info("%s: %s", subject.label, error)
        return {**NOTHING, "ms": 0.0}
    milliseconds = 1e3 * (time.perf_counter() - started)
    figures = compare(mesh, truth)
    return {"chamfer": figures.chamfer, "iou": figures.iou, "ms": milliseconds}


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _note_seconds(folder: Path, stage: str, seconds: float) -> None:
    """Later runs find everything done: the first one tells."""
    noted = {stage: seconds, **stage_seconds(Workspace(folder))}
    (folder / SECONDS).write_text(json.dumps(noted, indent=1) + "\n")


def stored(subject: Subject) -> StoredItem:
    """Its item, which was not read yet."""
    assert isinstance(subject.item, StoredItem)
    return subject.item


def as_mesh(cast: Any) -> Mesh:
    """A cast of a student that casts meshes."""
    assert isinstance(cast, Mesh)
    return cast

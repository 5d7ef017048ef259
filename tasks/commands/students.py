"""`students`: every trained student that is stored, published or not, with what sets it apart and what it is worth; and
one of them as two files, to be the teacher of another workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.trained import WEIGHTS, with_licences
from tasks.collections.files import write_atomically
from tasks.collections.index import Finished, ItemReader
from tasks.collections.ledger import Ledger
from tasks.collections.records import Record, from_line, read_items
from tasks.collections.summaries import known_metrics
from tasks.engine.outcome import StageFailed
from tasks.params import by_dotted_name
from tasks.stages.evaluate.methods import STUDENT
from tasks.stages.students import MAIN
from tasks.workspace import Workspace

STAGE = "train"
ID_LENGTH = 8


@dataclass(frozen=True)
class TrainedStudent:
    """A finished training.

    id: first 8 hex of the digest of its weights. names: what params.yaml calls it, none for one that only a trial or an
    earlier state of things made. settings: by dotted name, those that are not the main student's. quality: of its
    record. evaluated: its pooled figures where it is published and was evaluated. seconds: that its training took on
    this machine. bytes: of its files.
    """

    id: str
    names: list[str]
    plugin: str
    settings: dict[str, Any]
    quality: Mapping[str, Any]
    evaluated: Mapping[str, Any]
    seconds: float | None
    bytes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def list_students(workspace: Workspace) -> list[TrainedStudent]:
    """The published ones first, the main one before its variants; then the others, the best validated first."""
    published = read_items(workspace.items_file(STAGE))
    main = published.get(MAIN)
    base = dict(by_dotted_name(main.facts["settings"])) if main else {}
    seconds, evaluated = _seconds(workspace), _evaluated(workspace)
    found: dict[str, TrainedStudent] = {}
    for record in _held(workspace):
        weights = record.files[WEIGHTS].sha256
        names = [name for name, one in published.items() if one.files[WEIGHTS].sha256 == weights]
        own = dict(by_dotted_name(record.facts["settings"]))
        changed = [name for name in sorted(own.keys() | base.keys()) if own.get(name) != base.get(name)]
        methods = [STUDENT if name == MAIN else name for name in names]
        found[weights] = TrainedStudent(
            id=weights[:ID_LENGTH],
            names=sorted(names, key=lambda name: (name != MAIN, name)),
            plugin=str(record.facts["student"]),
            settings={name: own.get(name) for name in changed},
            quality=dict(record.quality),
            evaluated=next((evaluated[name] for name in methods if name in evaluated), {}),
            seconds=seconds.get(record.key),
            bytes=sum(entry.size for entry in record.files.values()),
        )
    return sorted(found.values(), key=_order)


def open_student(workspace: Workspace, name: str) -> dict[str, bytes]:
    """The files of a trained student: by what params.yaml calls it, or by the beginning of its id.

    Raises StageFailed where nothing is trained, ValueError for a name that means none or several.
    """
    return _read(workspace, _find(workspace, name), name)


def export_student(workspace: Workspace, name: str, folder: Path) -> list[Path]:
    """Write student.safetensors and student.json, with the licences of what it learned from, to a folder, instead of
    those that are there; returns their paths. name and errors: see `open_student`."""
    record = _find(workspace, name)
    files = with_licences(_read(workspace, record, name), record.facts.get("licences", ()))
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        write_atomically(folder / file, data)
    return [folder / file for file in files]


def _find(workspace: Workspace, name: str) -> Record:
    published = read_items(workspace.items_file(STAGE))
    if not published and name == MAIN:
        raise StageFailed(f"no trained student in {workspace.root}; run `lostwax run --until train`")
    records = {record.files[WEIGHTS].sha256: record for record in _held(workspace)}
    if (record := published.get(MAIN if name == STUDENT else name)) is not None:
        matching = [record]
    else:
        matching = [record for weights, record in records.items() if len(name) >= 4 and weights.startswith(name)]
    if len(matching) != 1:
        known = [*published, *(weights[:ID_LENGTH] for weights in records)]
        what = f"{name!r} means {len(matching)} students" if matching else f"there is no student {name!r}"
        raise ValueError(f"{what}; `lostwax students` lists them: {', '.join(known)}")
    return matching[0]


def _read(workspace: Workspace, record: Record, name: str) -> dict[str, bytes]:
    finished = Finished(workspace.local(STAGE), workspace.shards_dir(STAGE), None)
    finished.refresh()
    location = finished.location(record.id, record.key)
    if location is None:
        raise StageFailed(
            f"the bytes of student {name} are not here; run `dvc checkout` or `lostwax run --until train`"
        )
    reader = ItemReader(workspace.shards_dir(STAGE))
    try:
        return {file: reader.read(location, record, file) for file in record.files}
    finally:
        reader.close()


def _held(workspace: Workspace) -> Iterator[Record]:
    """Finished trainings on this machine; those of a lostwax that kept no settings are left out."""
    finished = Finished(workspace.local(STAGE), workspace.shards_dir(STAGE), None)
    finished.refresh()
    for line in finished.lines():
        record = from_line(line)
        if "settings" in record.facts:
            yield record


def _seconds(workspace: Workspace) -> dict[str, float]:
    """Of finished trainings, by key."""
    if not (workspace.local(STAGE) / "ledger.db").is_file():
        return {}
    with Ledger(workspace.local(STAGE)) as ledger:
        return ledger.seconds_by_key()


def _evaluated(workspace: Workspace) -> dict[str, Mapping[str, Any]]:
    """Pooled figures by method, of the split that was evaluated last."""
    metrics = known_metrics(workspace.metrics_file("evaluate"))
    split = next((name for name in ("test", "val", "train") if name in metrics), None)
    pooled: dict[str, Mapping[str, Any]] = metrics.get(split, {}) if split else {}
    return pooled


def _order(student: TrainedStudent) -> tuple[bool, bool, float, str]:
    selected = student.quality.get("selected_by")
    value = student.quality.get(f"val_{selected}", 0.0)
    return MAIN not in student.names, not student.names, float(value), student.id

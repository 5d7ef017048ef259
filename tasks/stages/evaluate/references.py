"""What the baselines know of the training split: a mean shape for each class and an index of features.

Both are made once for a set of training items and kept in the stage's work folder; workers wait for the one that makes
them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from models.errors import EmptyOutput
from models.geometry import Mesh
from models.machine import num_cores
from tasks.collections.files import write_atomically
from tasks.collections.records import Record
from tasks.engine.stage import Upstream
from tasks.stages.features import GRIDS
from tasks.stages.ingest import has_truth

if TYPE_CHECKING:
    from models.baselines.nearest import FeatureIndex

log = logging.getLogger(__name__)

LAYOUT = 2
"""Raised when the files below change their form or how they are made."""


@dataclass(frozen=True)
class TrainingItem:
    """A training item with truth. mesh and features: sha256 of its true mesh and its grids (None without grids)."""

    id: str
    label_class: str
    mesh: str
    features: str | None


def training_items(upstreams: Mapping[str, Upstream], most_per_class: int) -> list[TrainingItem]:
    """The train split's items with truth, by id, at most so many a class."""
    grids = upstreams["features"].records
    counts: dict[str, int] = defaultdict(int)
    items = []
    for item_id, record in sorted(upstreams["ingest"].records.items()):
        label_class = class_of(record)
        if record.facts["split"] != "train" or not has_truth(record) or counts[label_class] >= most_per_class:
            continue
        counts[label_class] += 1
        features = grids[item_id].files[GRIDS].sha256 if item_id in grids else None
        items.append(TrainingItem(item_id, label_class, record.files["mesh.glb"].sha256, features))
    return items


def training_digest(items: Iterable[TrainingItem]) -> str:
    """sha256 (64 hex) over all that the references are made from."""
    content = [LAYOUT, *((item.id, item.label_class, item.mesh, item.features) for item in items)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def class_of(record: Record) -> str:
    """The class of an ingested item."""
    return str(record.facts["class"])


def read_grids(data: bytes) -> dict[str, npt.NDArray[np.float16]]:
    """Token grids (H, W, C) by view, of a grids.safetensors."""
    from safetensors.numpy import load

    return {name.removeprefix("tokens."): grid for name, grid in load(data).items() if name.startswith("tokens.")}


class References:
    """The references of one set of training items, read from their folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._classes: dict[str, str] = json.loads((folder / "classes.json").read_text())
        self._index: FeatureIndex | None = None

    def mean_shape(self, label_class: str) -> Mesh | None:
        """None for a class of which nothing was trained on."""
        name = self._classes.get(label_class)
        return Mesh.from_glb((self._folder / name).read_bytes()) if name else None

    def nearest(self, grids: Mapping[str, npt.NDArray[np.float16]]) -> str | None:
        """Id of the training item whose features are nearest; None where no view is shared with any."""
        if self._index is None:
            self._index = self._load_index()
        return self._index.nearest(grids)

    def _load_index(self) -> FeatureIndex:
        from models.baselines.nearest import FeatureIndex

        index = json.loads((self._folder / "index.json").read_text())
        mode: Literal["r"] | None = "r" if index["ids"] else None  # an empty file cannot be mapped
        rows = np.load(self._folder / "index.npy", mmap_mode=mode, allow_pickle=False)
        return FeatureIndex(tuple(index["ids"]), tuple(index["views"]), rows)


def open_references(
    folder: Path, items: list[TrainingItem], upstreams: Mapping[str, Upstream], progress: Callable[[str], None]
) -> References:
    """The references of these items under `folder`, made first where they are not there; older ones are dropped."""
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / training_digest(items)[:16]
    with locked(folder / "lock"):
        if not home.is_dir():
            partial = folder / "partial"
            for old in folder.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            partial.mkdir()
            _make_mean_shapes(partial, items, upstreams["ingest"], progress)
            _make_index(partial, items, upstreams["features"])
            partial.rename(home)
    return References(home)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file; waits for it, and a dead holder's is free."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_mean_shapes(
    folder: Path, items: list[TrainingItem], ingest: Upstream, progress: Callable[[str], None]
) -> None:
    from models.baselines.mean_shape import mean_shape

    by_class: dict[str, list[TrainingItem]] = defaultdict(list)
    for item in items:
        by_class[item.label_class].append(item)
    names = {}
    for number, (label_class, members) in enumerate(sorted(by_class.items())):
        progress(f"mean shape of {len(members)} training items of class {label_class}")
        try:
            meshes = (Mesh.from_glb(ingest.read(item.id, "mesh.glb")) for item in members)
            mean = mean_shape(meshes, num_threads=num_cores())  # the other workers wait for this one
        except EmptyOutput as error:
            log.warning("class %s has no mean shape: %s", label_class, error)
            continue
        names[label_class] = f"mean_shape.{number}.glb"
        write_atomically(folder / names[label_class], mean.to_glb())
    write_atomically(folder / "classes.json", json.dumps(names).encode())


def _make_index(folder: Path, items: list[TrainingItem], features: Upstream) -> None:
    from models.baselines.nearest import FeatureIndex

    found = [item for item in items if item.features is not None]
    index = FeatureIndex.build((item.id, read_grids(features.read(item.id, GRIDS))) for item in found)
    np.save(folder / "index.npy", index.rows_NVD, allow_pickle=False)
    write_atomically(folder / "index.json", json.dumps({"ids": index.ids, "views": index.views}).encode())

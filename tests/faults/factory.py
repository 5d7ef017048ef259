"""Sixty photos, a scripted teacher, and the faults of a long teacher run: F1 to F15.

`python -P -m tests.faults.factory` prints how each of them ends, as the table in docs/faults.md.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from models.views import encode_png
from tasks.workspace import Workspace
from tests.faults.evidence import held_twice
from tests.support import Finished, Running, make_workspace, run_task

NUM_ITEMS = 60
SIZE_PX = 32


def photo(seed: int) -> bytes:
    """An ellipse of some colour and slenderness on a transparent ground, as a PNG."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices((SIZE_PX, SIZE_PX)) - (SIZE_PX - 1) / 2
    alpha = (np.hypot(rows, columns / random.uniform(0.2, 1)) < random.uniform(8, 14)) * 255
    colour = np.broadcast_to(random.integers(0, 255, 3), (SIZE_PX, SIZE_PX, 3))
    return encode_png(np.dstack([colour, alpha]).astype(np.uint8))


def make_factory(folder: Path, num_items: int = NUM_ITEMS) -> Workspace:
    """A workspace whose photos are matted and wait for the teacher."""
    params = {
        "run": {"workers": 2, "device": "cpu", "item_time_limit_s": 60},
        "ingest": {"inbox": "inbox", "sources": [{"source": "folder"}]},
        "views": {"size_px": SIZE_PX},
        "matte": {"size_px": SIZE_PX},
        "teach": {"teacher": "scripted"},
        "teachers": {"scripted": {"script": str(folder / "script"), "ladder": [{"resolution": 256}]}},
    }
    workspace = make_workspace(folder, params)
    (folder / "script").mkdir()
    for seed in range(num_items):
        (workspace.root / "inbox" / f"photo{seed:04d}.png").write_bytes(photo(seed))
    prepare(workspace)
    return workspace


def prepare(workspace: Workspace) -> None:
    for stage in ("ingest", "views", "matte"):
        ended = run_task(stage, workspace)
        assert ended.exit_code == 0, ended.stderr


@dataclass
class Factory:
    """A copy of a prepared workspace, and what its teacher is told to do."""

    workspace: Workspace
    ids: dict[str, str] = field(default_factory=dict)
    """Item id by label."""

    @staticmethod
    def copy(prepared: Workspace, folder: Path) -> Factory:
        shutil.copytree(prepared.root, folder, dirs_exist_ok=True)
        factory = Factory(Workspace(folder))
        factory.set(teachers={"scripted": {"script": str(folder / "script")}})
        factory.read_labels()
        return factory

    def read_labels(self) -> None:
        lines = self.workspace.items_file("ingest").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        self.ids = {record["facts"]["label"]: record["id"] for record in records}

    @property
    def script(self) -> Path:
        return self.workspace.root / "script"

    def tell(self, acts: dict[str, list[str]]) -> None:
        """What the teacher does with an item at its first, second, ... try; the last act repeats."""
        by_id = {self.ids[label]: todo for label, todo in acts.items()}
        (self.script / "acts.json").write_text(json.dumps(by_id))

    def set(self, **blocks: dict[str, Any]) -> None:
        path = self.workspace.params_file
        params = yaml.safe_load(path.read_text())
        for name, values in blocks.items():
            for key, value in values.items():
                inner = params.setdefault(name, {}).get(key)
                params[name][key] = inner | value if isinstance(inner, dict) and isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(params))

    def running(self) -> Running:
        return Running("tasks", "teach", cwd=self.workspace.root)

    def run(self, timeout_s: float = 180) -> Finished:
        return run_task("teach", self.workspace, timeout_s=timeout_s)

    def computed(self) -> Counter[str]:
        """How often each item, by label, came to its end in the teacher."""
        labels = {item_id: label for label, item_id in self.ids.items()}
        path = self.script / "computed.log"
        return Counter(labels[line] for line in path.read_text().splitlines()) if path.is_file() else Counter()

    def done(self) -> set[str]:
        labels = {item_id: label for label, item_id in self.ids.items()}
        path = self.workspace.items_file("teach")
        return {labels[json.loads(line)["id"]] for line in path.read_text().splitlines()} if path.is_file() else set()

    def records(self) -> list[dict[str, Any]]:
        """Of what the teacher made, as published."""
        return [json.loads(line) for line in self.workspace.items_file("teach").read_text().splitlines()]

    def rungs(self) -> dict[str, int]:
        """Rung of the items that were made with less."""
        labels = {item_id: label for label, item_id in self.ids.items()}
        return {labels[record["id"]]: record["rung"] for record in self.records() if record["rung"]}

    def failed(self) -> dict[str, tuple[str, str]]:
        """(class, message) of every item that is not done, by label."""
        entries = json.loads(self.workspace.failures_file("teach").read_text())
        return {entry["label"]: (entry["class"], entry["message"]) for entry in entries}

    def num_loads(self) -> int:
        path = self.script / "loads.log"
        return len(path.read_text().splitlines()) if path.is_file() else 0

    def assert_all_but(self, bad: set[str]) -> None:
        """Every item but the bad ones is done, was computed once and is held once."""
        assert self.done() == set(self.ids) - bad
        assert held_twice(self.workspace, "teach") == []
        computed = self.computed()
        assert {label: count for label, count in computed.items() if count > 1 and label not in bad} == {}


def labels_of(*numbers: int) -> set[str]:
    return {f"photo{number:04d}" for number in numbers}


def main() -> int:
    from tests.faults.test_teacher_faults import CASES

    with tempfile.TemporaryDirectory() as folder:
        prepared = make_factory(Path(folder) / "prepared")
        print("| fault | healthy done | bad, by class | exit | seconds | what a person reads |")
        print("|---|---|---|---|---|---|")
        for index, (name, case) in enumerate(CASES.items()):
            factory = Factory.copy(prepared, Path(folder) / str(index))
            print(f"| {name} | {case(factory)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

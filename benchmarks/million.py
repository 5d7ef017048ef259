"""What planning costs where nothing is to be done: a source of many items and a stage behind it, both finished.

python -m benchmarks.million --items 1000000 [--json]

The items are written as a worker writes them, so that what is measured is the planner: `plan` and a run of each stage,
each in a process of its own. A record describes two files and some facts, about 500 bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.engine import environment
from models.params import Block
from tasks.collections.records import Record
from tasks.collections.spool import Spool
from tasks.collections.tarball import encode_item, file_entries
from tasks.commands.plan import forecast_stages
from tasks.engine.planning import make_recipe
from tasks.engine.runner import run_stage
from tasks.engine.stage import Context, Stage, Wanted
from tasks.params import Params
from tasks.scaffold import create
from tasks.workspace import Workspace

NUM_FILES = 2
FACTS = {"label": "shoes/running/left-0001", "class": "shoe", "split": "train", "views": ["front", "left", "back"]}


class NumbersParams(Block):
    num_items: int = 0


class NamesParams(Block):
    pass


class Numbers(Stage):
    """The items are numbers."""

    name = "numbers"
    Params = NumbersParams

    def key_params(self, params: Any) -> Any:
        return {}

    def wanted(self, context: Context) -> Iterator[Wanted]:
        for number in range(context.params.stage(self.name).num_items):
            text = f"{number:016x}"
            yield Wanted(text, text, (("number", hashlib.sha256(text.encode()).hexdigest()),))


class Names(Stage):
    """Reads all files of every number."""

    name = "names"
    upstreams = ("numbers",)
    Params = NamesParams


STAGES: tuple[Stage, ...] = (Numbers(), Names())


def params(num_items: int) -> Params:
    return Params({"numbers": {"num_items": num_items}}, STAGES)


def make(workspace: Workspace, num_items: int) -> None:
    """Finish every item of both stages, and publish them."""
    create(workspace.root)
    chosen = params(num_items)
    inputs = {wanted.id: wanted.inputs for wanted in Numbers().wanted(_context(workspace, chosen))}
    for stage in STAGES:
        recipe = make_recipe(stage, chosen, {}, workspace, lambda path: "")
        spool = Spool(workspace.local(stage.name), workspace.shards_dir(stage.name))
        for item_id in inputs:
            record, files = _item(stage, item_id, recipe.key(inputs[item_id]), recipe.name)
            spool.append(*encode_item(record, files))
            spool.seal_if_full()
            inputs[item_id] = tuple((f"{stage.name}/{name}", entry.sha256) for name, entry in record.files.items())
        spool.seal()
        assert run_stage(stage, workspace, chosen, {}).computed == 0


def _context(workspace: Workspace, chosen: Params) -> Context:
    return Context(workspace.root, chosen, "cpu", 1, workspace.root, {}, lambda _: None)


def _item(stage: Stage, item_id: str, key: str, recipe: str) -> tuple[Record, Mapping[str, bytes]]:
    files = {f"{stage.name}.{index}.bin": f"{item_id} {index}".encode() for index in range(NUM_FILES)}
    return Record(item_id, key, file_entries(files), facts=FACTS, recipe=recipe), files


def plan(workspace: Workspace, num_items: int) -> dict[str, int]:
    found = forecast_stages(workspace, params(num_items), {}, STAGES)
    return {"fresh": sum(stage.fresh for stage in found), "to_compute": sum(stage.to_compute for stage in found)}


def run(workspace: Workspace, num_items: int, stage: Stage) -> dict[str, int]:
    outcome = run_stage(stage, workspace, params(num_items), {})
    return {"fresh": outcome.done, "to_compute": outcome.computed}


def measure(num_items: int, folder: Path) -> dict[str, Any]:
    """Each in a process of its own; this one stays small, because a child's peak memory begins with its parent's."""
    figures: dict[str, Any] = {"items": num_items}
    for what in ("make", "plan", *(stage.name for stage in STAGES)):
        command = [sys.executable, "-P", "-m", "benchmarks.million", "--items", str(num_items), "--measure", what]
        started = time.perf_counter()
        done = subprocess.run([*command, folder], check=True, stdout=subprocess.PIPE, text=True, env=environment())
        if what == "make":
            continue
        found = json.loads(done.stdout)
        figures |= {f"{what}_s": time.perf_counter() - started, f"{what}_cpu_s": found["cpu_s"]}
        figures[f"{what}_bytes_an_item"] = found["peak_bytes"] / num_items
        assert found["to_compute"] == 0, found
        assert found["fresh"] == num_items * (len(STAGES) if what == "plan" else 1), found
    return figures


def measure_here(what: str, workspace: Workspace, num_items: int) -> dict[str, float]:
    """`plan`, or a run of one stage, in this process."""
    found: dict[str, float]
    started = time.process_time()
    if what == "make":
        make(workspace, num_items)
        found = {}
    elif what == "plan":
        found = dict(plan(workspace, num_items))
    else:
        found = dict(run(workspace, num_items, next(stage for stage in STAGES if stage.name == what)))
    found["cpu_s"] = time.process_time() - started
    found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return found


def main() -> None:
    from benchmarks import million  # as workers would find it, not as __main__

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "WORKSPACE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        what, folder = chosen.measure
        print(json.dumps(million.measure_here(what, Workspace(Path(folder).resolve()), chosen.items)))
        return
    with tempfile.TemporaryDirectory(prefix="lostwax-million-") as folder:
        figures = million.measure(chosen.items, Path(folder))
    if chosen.json:
        print(json.dumps(figures, indent=1))
    else:
        for name, value in figures.items():
            print(f"{name:<22}{value:.4g}" if isinstance(value, float) else f"{name:<22}{value}")


if __name__ == "__main__":
    main()

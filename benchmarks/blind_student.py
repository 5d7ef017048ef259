"""Does the student look? The student against the blind student: same network and budget, always shown one item.

    python -m benchmarks.blind_student --workspace DIR [--seeds 3] [--epochs N] [--json]

Trains both on a finished workspace's training items, once a seed, and compares the leading metric of what they cast on
its test items, item by item. A blind student is given the same inputs whatever it is to cast: it knows the class, so
that only what lies below its error was read from the pictures.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from models.casts import kind_of
from models.exam import Exam
from models.metrics import Protocol, Surface
from models.metrics.intervals import mean_interval
from models.needs import TRUTH, Given, Need
from models.students import Ask, Spec
from models.training.engine import Job, train
from models.training.feeds import Listed
from models.training.weights import load_trained
from tasks.engine.worker import open_upstream, resolve_device
from tasks.params import Params, load_params
from tasks.stages import catalog
from tasks.stages.catalog import StoredItem
from tasks.stages.students import MAIN, Choice
from tasks.stages.train.sources import find_sources
from tasks.workspace import Workspace

log = logging.getLogger("blind_student")
T = TypeVar("T")


@dataclass(frozen=True)
class Blinded:
    """An item that shows the inputs of another one, and teaches its own shape."""

    item: Given
    shown: Given
    inputs: tuple[Need[Any], ...]

    @property
    def id(self) -> str:
        return self.item.id

    def __call__(self, need: Need[T]) -> T:
        return (self.shown if need in self.inputs else self.item)(need)

    def get(self, need: Need[T]) -> T | None:
        return (self.shown if need in self.inputs else self.item).get(need)


@dataclass(frozen=True)
class Data:
    """A workspace's items by split, and the surfaces of the tested ones."""

    spec: Spec
    training: Sequence[Given]
    validation: Sequence[Given]
    test: Sequence[Given]
    truths: Sequence[Surface]


def compare(workspace: Workspace, params: Params, seeds: int, epochs: int | None, device: str) -> dict[str, Any]:
    """Means of both on the test items, and the 95 % interval of their paired difference."""
    choice = Choice(MAIN, params)
    seeing = read_data(workspace, choice)
    blind = blinded(seeing, choice.needs.given)
    errors = {"student": [], "blind_student": []}  # type: dict[str, list[npt.NDArray[np.float64]]]
    for seed in range(seeds):
        for name, data in (("student", seeing), ("blind_student", blind)):
            errors[name].append(test_errors(data, choice, seed, epochs, device))
        log.info("seed %d: %s", seed, {name: round(float(found[-1].mean()), 4) for name, found in errors.items()})
    difference_N = np.mean(errors["blind_student"], axis=0) - np.mean(errors["student"], axis=0)
    return {
        **{name: float(np.mean(found)) for name, found in errors.items()},
        "by_seed": {name: [float(error_N.mean()) for error_N in found] for name, found in errors.items()},
        "difference": float(difference_N.mean()),
        "difference_95": list(mean_interval(list(difference_N), seed=0)),
        "num_items": len(difference_N),
        "protocol": Protocol().to_json(),
    }


def test_errors(data: Data, choice: Choice, seed: int, epochs: int | None, device: str) -> npt.NDArray[np.float64]:
    """The leading metric of a newly trained student on each test item."""
    student = choice.plugin.create(choice.plugin_params, data.spec, seed=seed)
    changes = {"seed": seed} | ({"epochs": epochs} if epochs else {})
    recipe = choice.block.recipe().model_copy(update=changes)
    validation = Listed(data.validation, student.example) if data.validation else None
    with tempfile.TemporaryDirectory() as folder:
        job = Job(Path(folder), device=device, progress=log.debug)
        load_trained(student, train(student, Listed(data.training, student.example), validation, recipe, job).state)
    figures = []
    for item, truth in zip(data.test, data.truths, strict=True):
        cast = student.predict(item, Ask())
        kind = kind_of(cast)
        figures.append(kind.measure(cast, Exam(truth=truth))[kind.METRICS[0].name])
    return np.array(figures)


def read_data(workspace: Workspace, choice: Choice) -> Data:
    """Raises ValueError where the workspace lacks training items, or test items with truth."""
    names = (*catalog.all_stages(), "gate")
    upstreams = {name: open_upstream(workspace, name) for name in names}
    params, needs = choice.params, choice.needs
    learned = find_sources(needs, upstreams, ("train", "val"), params.stage("gate"), params)
    tested = find_sources(needs, upstreams, ("test",), None, params)
    test = [source for source in tested.chosen if source.has_truth]
    if not learned.split("train") or not test:
        raise ValueError(f"{workspace.root} has nothing to compare on; run `lostwax run --until gate`")
    training, validation, testing = (
        [source.given(needs, params, upstreams) for source in sources]
        for sources in (learned.split("train"), learned.split("val"), test)
    )
    read = catalog.reader(upstreams)
    truths = [StoredItem(one.id, one.records, (TRUTH,), params, read)(TRUTH) for one in testing]
    surfaces = [Surface(mesh, Protocol()) for mesh in truths]
    return Data(learned.spec(needs, params), training, validation, testing, surfaces)


def blinded(data: Data, inputs: tuple[Need[Any], ...]) -> Data:
    """Every item shows what the first training item shows."""
    shown = data.training[0]

    def blind(items: Sequence[Given]) -> list[Blinded]:
        return [Blinded(item, shown, inputs) for item in items]

    return Data(data.spec, blind(data.training), blind(data.validation), blind(data.test), data.truths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="instead of the workspace's")
    parser.add_argument("--json", action="store_true", help="print nothing but JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING if arguments.json else logging.INFO, format="%(message)s")
    workspace = Workspace(arguments.workspace.resolve())
    params = load_params(workspace.params_file)
    device = resolve_device(params.run.device, 0)
    figures = compare(workspace, params, arguments.seeds, arguments.epochs, device)
    if arguments.json:
        print(json.dumps(figures))
        return
    low, high = figures["difference_95"]
    print(f"Leading metric on {figures['num_items']} test items, {arguments.seeds} seeds:")
    print(f"student {figures['student']:.4f}, blind student {figures['blind_student']:.4f}")
    print(f"the student is better by {figures['difference']:.4f} [{low:.4f}, {high:.4f}] (95 %, paired)")


if __name__ == "__main__":
    main()

"""Does the student look? The student against the blind student: same network and budget, inputs zeroed.

    python -m benchmarks.blind_student --workspace DIR [--seeds 3] [--epochs N] [--json]

Trains both on a finished workspace's training items, once a seed, and compares their Chamfer on its test items, item by
item: a blind student knows the class, so that only what lies below its error was read from the pictures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models import plugins
from models.students import FeatureSpec
from models.training.data import ShapeSet
from models.training.engine import Validator, train
from models.training.recipe import Recipe
from tasks.engine.worker import open_upstream, resolve_device
from tasks.params import Params, load_params
from tasks.stages.train import Train, feature_spec, find_sources, load_shapes
from tasks.workspace import Workspace

log = logging.getLogger("blind_student")

SPLITS = ("train", "val", "test")
NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class Data:
    """A workspace's items, by split. validation: None where there are none."""

    spec: FeatureSpec
    training: ShapeSet
    validation: ShapeSet | None
    test: ShapeSet

    def blinded(self) -> Data:
        """The same with all tokens zero."""
        validation = None if self.validation is None else _blinded(self.validation)
        return Data(self.spec, _blinded(self.training), validation, _blinded(self.test))


def _blinded(shapes: ShapeSet) -> ShapeSet:
    return dataclasses.replace(shapes, tokens_NVHWC=torch.zeros_like(shapes.tokens_NVHWC))


def compare(data: Data, params: Params, recipe: Recipe, seeds: int, device: str) -> dict[str, Any]:
    """Mean test Chamfer of both, and the 95 % interval of their paired difference over items."""
    seeing_SN, blind_SN = [], []
    for seed in range(seeds):
        seeded = recipe.model_copy(update={"seed": seed})
        seeing_SN.append(test_errors(data, params, seeded, device))
        blind_SN.append(test_errors(data.blinded(), params, seeded, device))
        log.info("seed %d: student %.4f, blind %.4f", seed, seeing_SN[-1].mean(), blind_SN[-1].mean())
    difference_N = np.mean(blind_SN, axis=0) - np.mean(seeing_SN, axis=0)
    low, high = bootstrap_interval(difference_N)
    return {
        "student": float(np.mean(seeing_SN)),
        "blind_student": float(np.mean(blind_SN)),
        "by_seed": {
            "student": [float(errors.mean()) for errors in seeing_SN],
            "blind_student": [float(errors.mean()) for errors in blind_SN],
        },
        "difference": float(difference_N.mean()),
        "difference_95": [low, high],
        "num_items": len(difference_N),
        "num_points": recipe.validation_points,
        "epochs": recipe.epochs,
        "metric": "Chamfer to truth, unsquared, (accuracy + completeness) / 2, longest side 1",
    }


def test_errors(data: Data, params: Params, recipe: Recipe, device: str) -> npt.NDArray[np.float64]:
    """Chamfer of a newly trained student on each test item."""
    name = params.stage("train").student
    student = plugins.load("students", name).create(params.plugin("students", name), data.spec, seed=recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            student,
            data.training,
            data.validation,
            recipe,
            device=device,
            folder=Path(folder),
            config={},
            progress=log.debug,
        )
    test = data.test.to(torch.device(device))
    state = {key: value.to(device) for key, value in result.state.items()}
    errors: npt.NDArray[np.float64] = Validator(student, test, recipe).errors(state).double().cpu().numpy()
    return errors


def bootstrap_interval(values_N: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of the mean when items are resampled."""
    drawn = np.random.default_rng(0).integers(len(values_N), size=(NUM_RESAMPLES, len(values_N)))
    low, high = np.quantile(values_N[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def read_data(workspace: Workspace, params: Params) -> Data:
    """Raises ValueError where the workspace lacks training or test items with features, teacher's mesh and truth."""
    upstreams = {name: open_upstream(workspace, name) for name in Train.upstreams}
    limits = {"train": params.stage("gate"), "val": params.stage("gate"), "test": None}
    sources = {split: find_sources(upstreams, (split,), limits[split]) for split in SPLITS}
    sources["test"] = [source for source in sources["test"] if source.has_truth]
    for split in ("train", "test"):
        if not sources[split]:
            raise ValueError(f"{workspace.root} has no {split} items to compare on; run `lostwax run --until gate`")
    spec = feature_spec([source for split in SPLITS for source in sources[split]], params.stage("features").views)
    shapes = {
        split: load_shapes(found, spec, upstreams, log.debug) if found else None for split, found in sources.items()
    }
    assert shapes["train"] and shapes["test"]
    return Data(spec, shapes["train"], shapes["val"], shapes["test"])


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
    recipe = params.stage("train").recipe()
    if arguments.epochs:
        recipe = recipe.model_copy(update={"epochs": arguments.epochs})
    figures = compare(
        read_data(workspace, params), params, recipe, arguments.seeds, resolve_device(params.run.device, 0)
    )
    if arguments.json:
        print(json.dumps(figures))
        return
    low, high = figures["difference_95"]
    print(f"Chamfer on {figures['num_items']} test items, {arguments.seeds} seeds:")
    print(f"student {figures['student']:.4f}, blind student {figures['blind_student']:.4f}")
    print(f"the student is better by {figures['difference']:.4f} [{low:.4f}, {high:.4f}] (95 %, paired)")


if __name__ == "__main__":
    main()

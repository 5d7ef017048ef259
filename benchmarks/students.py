"""Which student is worth its time? `field` against `mesh_deform`, a blind student and the baselines, on unseen objects.

    python -m benchmarks.students [--sets shoes eyeglasses real] [--seeds 3] [--epochs N] [--work DIR] [--json]

shoes, eyeglasses: generated ones, of which a fifth is held out. real: the meshes of ../shared/data, class by class:
what is measured is learned from generated shoes and the real objects of other classes.

`mesh_deform` trains as long as `field` does (CPU time of this process). The blind student is `field` that is shown the
first training item whatever it is to cast. Figures are means over seeds and items; a ratio's interval (95 %) is a
bootstrap over the items, paired.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.blind_student import Blinded
from benchmarks.subjects import (
    NOTHING,
    Subject,
    as_mesh,
    common_spec,
    prepared,
    read_subjects,
    score,
    trained,
)
from models.baselines.ellipsoid import fit_ellipsoid
from models.baselines.nearest import FeatureIndex
from models.geometry import Mesh
from models.metrics import Protocol, Surface
from models.metrics.intervals import ratio_interval
from models.needs import TOKENS, TRUTH, VIEWS
from models.students import Ask, Spec
from models.training.recipe import Recipe
from tasks.params import load_params
from tasks.workspace import Workspace

log = logging.getLogger("students")

NUM_GENERATED = 96
FOLDS = 5
"""Real classes are held out in so many groups: no object is measured by a student that saw its class."""
OPAQUE = 128
METHODS = ("field", "mesh_deform", "blind", "nearest", "ellipsoid")

REAL_CLASSES = {
    "shoe": "shoes/",
    "glasses": "glasses/",
    "bust": "faces/",
    "hammer": "hammer",
    "screwdriver": "screwdriver",
    "scissors": "scissors",
    "fruit": "plastic_|avocado",
    "cutlery": "fork|knife|spoon",
    "pen": "marker|flashlight",
    "animal": "horse|bull|lion|fox|spot|therizinosaurus|dragon|orca|eagle",
    "lamp": "lamp|candle",
}
"""Patterns of labels, the first that fits; what fits none is a class of its own."""


@dataclass(frozen=True)
class Trial:
    """Subjects to learn from, and others to be measured on."""

    training: Sequence[Subject]
    test: Sequence[Subject]


@dataclass(frozen=True)
class Budget:
    """What a training may take: epochs of `field`, and the seed."""

    epochs: int
    seed: int


Scores = dict[str, dict[str, Mapping[str, float]]]
"""Chamfer and IoU by method and label."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=("shoes", "eyeglasses", "real"), default=["shoes"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="of field; those of mesh_deform follow from its time")
    parser.add_argument("--count", type=int, default=NUM_GENERATED, help="generated objects")
    parser.add_argument("--work", type=Path, default=Path("bench-work/students"))
    parser.add_argument("--json", action="store_true", help="print nothing but JSON")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING if arguments.json else logging.INFO, format="%(message)s")
    figures = {}
    for name in arguments.sets:
        workspace = prepared(arguments.work.resolve() / name, name, arguments.count)
        trials = list(TRIALS[name](read_subjects(workspace)))
        budgets = [Budget(arguments.epochs, seed) for seed in range(arguments.seeds)]
        figures[name] = summarise([measured(trials, workspace, budget) for budget in budgets])
        if not arguments.json:
            show(name, figures[name])
    if arguments.json:
        print(json.dumps(figures))


def held_out(subjects: Sequence[Subject]) -> Iterator[Trial]:
    """The splits as they are; what would be validated on is left out, so that all methods know the same."""
    yield Trial(
        [subject for subject in subjects if subject.split == "train"],
        [subject for subject in subjects if subject.split == "test"],
    )


def class_by_class(subjects: Sequence[Subject]) -> Iterator[Trial]:
    """Every real class is left out once, the smaller ones together."""
    real = [subject for subject in subjects if not subject.generated]
    fold_of: dict[str, int] = {}
    load = [0] * FOLDS
    sizes = Counter(real_class(subject) for subject in real)
    for name, size in sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0])):
        fold_of[name] = load.index(min(load))
        load[fold_of[name]] += size
    for fold in range(FOLDS):
        test = [subject for subject in real if fold_of[real_class(subject)] == fold]
        if test:
            left_out = {subject.item.id for subject in test}
            yield Trial([subject for subject in subjects if subject.item.id not in left_out], test)


def real_class(subject: Subject) -> str:
    """Of a real object."""
    found = (name for name, pattern in REAL_CLASSES.items() if re.search(pattern, subject.label, re.IGNORECASE))
    return next(found, subject.label)


TRIALS: Mapping[str, Callable[[Sequence[Subject]], Iterator[Trial]]] = {
    "shoes": held_out,
    "eyeglasses": held_out,
    "real": class_by_class,
}


def measured(trials: Sequence[Trial], workspace: Workspace, budget: Budget) -> Scores:
    """Every method on every test object, with one seed."""
    scores: Scores = {method: {} for method in METHODS}
    params = load_params(workspace.params_file)
    for trial in trials:
        spec = common_spec((*trial.training, *trial.test), params)
        casts = methods_of(trial, spec, budget)
        for subject in trial.test:
            read = subject.in_hand()
            truth = Surface(read.item(TRUTH), Protocol())
            for method, cast in casts.items():
                scores[method][subject.label] = score(cast, read, truth)
    for method, found in scores.items():
        log.info("seed %d, %s: Chamfer %.4f", budget.seed, method, np.mean([one["chamfer"] for one in found.values()]))
    return scores


def methods_of(trial: Trial, spec: Spec, budget: Budget) -> dict[str, Callable[[Subject], Mesh]]:
    """Methods that have learned what there is to learn."""
    items = [subject.item for subject in trial.training]
    recipe = Recipe(seed=budget.seed, epochs=budget.epochs)
    field = trained("field", items, spec, recipe)
    few, more = 1, 4
    seconds = [trained("mesh_deform", items, spec, _with_epochs(recipe, num)).seconds for num in (few, more)]
    an_epoch = (seconds[1] - seconds[0]) / (more - few)  # reading the items and the closed-form start come once
    epochs = few + max(0, round((field.seconds - seconds[0]) / an_epoch))
    deform = trained("mesh_deform", items, spec, _with_epochs(recipe, epochs))
    log.info("field %.0f s, mesh_deform %.0f s in %d epochs", field.seconds, deform.seconds, epochs)
    shown = items[0]
    blind = trained("field", [Blinded(item, shown, (TOKENS, VIEWS)) for item in items], spec, recipe)
    index = FeatureIndex.build((subject.item.id, subject.item(TOKENS)) for subject in trial.training)
    by_id = {subject.item.id: subject for subject in trial.training}

    def nearest(subject: Subject) -> Mesh:
        found = index.nearest(subject.item(TOKENS))
        assert found is not None
        return by_id[found].item(TRUTH)

    return {
        "field": lambda subject: as_mesh(field.student.predict(subject.item, Ask())),
        "mesh_deform": lambda subject: as_mesh(deform.student.predict(subject.item, Ask())),
        "blind": lambda subject: as_mesh(blind.student.predict(Blinded(subject.item, shown, (TOKENS, VIEWS)), Ask())),
        "nearest": nearest,
        "ellipsoid": _ellipsoid,
    }


def _with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    return recipe.model_copy(update={"epochs": epochs})


def summarise(by_seed: Sequence[Scores]) -> dict[str, Any]:
    """Means by method, and how `field` stands to each of the others."""
    labels = sorted(by_seed[0]["field"])

    def of(method: str, figure: str) -> list[float]:
        return [float(np.mean([scores[method][label][figure] for scores in by_seed])) for label in labels]

    methods = {method: {figure: float(np.mean(of(method, figure))) for figure in NOTHING} for method in METHODS}
    ours = of("field", "chamfer")
    ratios = {}
    for method in METHODS[1:]:
        other = of(method, "chamfer")
        ratios[method] = {
            "ratio": float(np.mean(ours) / np.mean(other)),
            "interval_95": list(ratio_interval(ours, other, seed=0)),
            "better_on": float(np.mean(np.array(ours) < np.array(other))),
        }
    return {
        "num_items": len(labels),
        "num_seeds": len(by_seed),
        "methods": methods,
        "field_ms_p50": float(np.median(of("field", "ms"))),
        "field_against": ratios,
        "by_seed": [float(np.mean([one["chamfer"] for one in scores["field"].values()])) for scores in by_seed],
        "per_item": {label: {method: of(method, "chamfer")[n] for method in METHODS} for n, label in enumerate(labels)},
        "protocol": Protocol().to_json(),
    }


def show(name: str, figures: Mapping[str, Any]) -> None:
    print(f"{name}: {figures['num_items']} unseen objects, {figures['num_seeds']} seeds")
    for method, means in figures["methods"].items():
        line = f"  {method:12} Chamfer {means['chamfer']:.4f}  IoU {means['iou']:.3f}"
        if method in figures["field_against"]:
            against = figures["field_against"][method]
            low, high = against["interval_95"]
            line += f"  field / {method} {against['ratio']:.3f} [{low:.3f}, {high:.3f}]"
        print(line)
    print(f"  a cast of field takes {figures['field_ms_p50']:.0f} ms (p50)")


def _ellipsoid(subject: Subject) -> Mesh:
    views = subject.item(VIEWS)
    assert views.cameras is not None
    return fit_ellipsoid(views.rgba_VHW4[..., 3] >= OPAQUE, views.cameras)


if __name__ == "__main__":
    main()

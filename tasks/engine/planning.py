"""What a stage wants, what is finished, and so what is left to do. One oracle: the key."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.params import Block
from models.plugins import result_version
from tasks.collections.index import Finished, FinishedLines
from tasks.collections.ledger import Attempt
from tasks.collections.records import canonical, from_line
from tasks.collections.summaries import known_failures
from tasks.engine.stage import Context, Inputs, Stage, item_key
from tasks.engine.supervisor import Task
from tasks.params import Attempts, Params
from tasks.workspace import Workspace

ITEM_ID = re.compile(r"[A-Za-z0-9_-]{1,22}")
INTERRUPTED = "interrupted"
"""The class of an attempt that the end of the whole run cut short."""


@dataclass(frozen=True)
class StageRecipe:
    """Everything in a stage's keys that is the same for all its items."""

    name: str
    """First 16 hex of the digest of `content`."""
    content: dict[str, Any]

    def key(self, inputs: Inputs) -> str:
        """sha256 (64 hex) over the recipe and (name, sha256) of every file that is read of the item."""
        return item_key(self.name, inputs)


@dataclass
class StagePlan:
    """Where every wanted item of a stage stands before a run."""

    recipe: StageRecipe
    finished: Finished
    total: int = 0
    fresh: dict[str, int] = field(default_factory=dict)
    """Of the items that are finished under their key, the number of the row in `finished`, by id."""
    pending: list[Task] = field(default_factory=list)
    reopened: list[Task] = field(default_factory=list)
    """Fresh items of a reduced rung, which are to be made again; the last of `pending`."""
    stale: set[str] = field(default_factory=set)
    """Ids of pending items that are finished under another key; the others are missing."""
    exhausted: dict[str, list[Attempt]] = field(default_factory=dict)
    """Failed attempts of the items that are not tried again."""
    skipped: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    """Labels of the items that are not fresh."""
    notes: list[str] = field(default_factory=list)
    outlook: list[str] = field(default_factory=list)
    """What the stage says of wanted items: as things stand, and while items upstream are still to be made."""
    settled: bool = False
    """Items that are still to be made upstream change nothing here."""

    def lines(self) -> FinishedLines:
        """The records of the fresh items."""
        return FinishedLines(self.finished, self.fresh)


def make_recipe(
    stage: Stage,
    params: Params,
    versions: Mapping[str, int],
    workspace: Workspace,
    digest: Callable[[Path], str],
) -> StageRecipe:
    """The stage's params and plug-ins with their versions, and the digests of the weights they use."""
    plugins = stage.recipe_plugins(params)
    chosen = [f"{family}.{name}" for family, name in sorted(plugins.items())]
    names = [stage.name, *chosen]
    content = {
        "stage": stage.name,
        "params": stage.key_params(params),
        "plugins": {f"{family}.{name}": _key_params(params.plugin(family, name)) for family, name in plugins.items()},
        "versions": {name: result_version(name, versions) for name in names},
        "weights": [_weight_digest(path, digest) for path in stage.weights(params, workspace.root)],
    }
    return StageRecipe(hashlib.sha256(canonical(content)).hexdigest()[:16], content)


def plan_stage(
    stage: Stage,
    context: Context,
    recipe: StageRecipe,
    finished: Finished,
    failures: Mapping[tuple[str, str], list[Attempt]],
    budgets: Attempts,
    reopened: Set[tuple[str, str]] = frozenset(),
) -> StagePlan:
    """Sort the wanted items into fresh, pending, exhausted and skipped.

    A fresh item that was reopened is pending too: its better rungs are tried, and it stays what it is if none fits.

    Pending items that failed before come last, so that one which kills the machine delays nobody. Raises ValueError for
    an id that is wanted twice, or that cannot name files.
    """
    plan = StagePlan(recipe, finished)
    known = finished.ids()
    failed: list[Task] = []
    context = replace(context, recipe=recipe.name, finished=lambda: map(from_line, finished.lines()))
    for wanted in stage.wanted(context):
        if wanted.id in plan.fresh or wanted.id in plan.labels:
            raise ValueError(f"item {wanted.id} is there twice")
        if not ITEM_ID.fullmatch(wanted.id):
            raise ValueError(f"an item's id is 1 to 22 letters, digits, - or _, not {wanted.id!r}")
        plan.total += 1
        if wanted.note:
            plan.notes.append(wanted.note)
        if wanted.outlook:
            plan.outlook.append(wanted.outlook)
        plan.settled |= wanted.settled
        if wanted.skip is not None:
            plan.skipped[wanted.id] = wanted.skip
            plan.labels[wanted.id] = wanted.label
            continue
        key = recipe.key(wanted.inputs)
        if (row := finished.row(wanted.id, key)) is not None:
            plan.fresh[finished.id_of(row)] = row
            if (wanted.id, key) in reopened and (rung := from_line(finished.line_of(row)).rung):
                plan.reopened.append(Task(wanted.id, key, wanted.label, {"rungs": rung}, wanted.item))
            continue
        plan.labels[wanted.id] = wanted.label
        attempts = failures.get((wanted.id, key), [])
        if stage.product:  # there is nothing else that it could delay: it may be interrupted for ever
            attempts = [attempt for attempt in attempts if attempt.outcome != INTERRUPTED]
        if is_exhausted(attempts, budgets):
            plan.exhausted[wanted.id] = attempts
            continue
        task = Task(wanted.id, key, wanted.label, wanted.payload, wanted.item)
        (failed if attempts else plan.pending).append(task)
        if wanted.id in known:
            plan.stale.add(wanted.id)
    plan.pending += [*failed, *plan.reopened]
    return plan


def is_exhausted(attempts: list[Attempt], budgets: Attempts) -> bool:
    """Whether the failed attempts at an item use up the budget of some class."""
    counts = Counter(attempt.outcome for attempt in attempts)
    return any(count >= getattr(budgets, outcome, budgets.error) for outcome, count in counts.items())


def published_failures(path: Path) -> dict[tuple[str, str], list[Attempt]]:
    """Exhausted items of failures.json as attempts: what is known of them where the ledger did not travel along."""
    found: dict[tuple[str, str], list[Attempt]] = {}
    for entry in known_failures(path):
        if entry["state"] == "exhausted":
            attempt = Attempt(entry["id"], entry["key"], entry["class"], entry["message"])
            found[entry["id"], entry["key"]] = [attempt] * entry["attempts"]
    return found


def _key_params(block: Block) -> dict[str, Any]:
    return block.model_dump(mode="json", exclude=set(block.LOCAL))


def _weight_digest(path: Path, digest: Callable[[Path], str]) -> str:
    return digest(path) if path.is_file() else "missing"

"""The teacher factory against what its loads allow, its cost an item, and its ladder on a simulated card.

python -m benchmarks.teacher [--items 1000] [--json]

- busy share: items of 50 ms, the teacher's process replaced every 25 items, 1 s to load, one worker:
  (seconds in the teacher, as its process measured them, + loads x 1 s) / wall seconds of the stage.
- supervision: milliseconds an item that a teacher costs which does nothing, in a process of its own.
- ladder: out-of-memory events on a simulated card that half of the items do not fit at full quality, starting by what
  was learnt, against the count of items that do not fit (each is an event when every item starts at the top).
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tasks.collections.ledger import Ledger
from tests.faults.factory import Factory, make_factory

ITEM_S, LOAD_S, RESTART_EVERY = 0.05, 1.0, 25


def stage_seconds(factory: Factory) -> float:
    """Wall seconds of the teach stage by its own ledger: lock to publishing, workers' start included."""
    ended = factory.run(timeout_s=3600)
    assert ended.exit_code == 0, ended.stderr
    with Ledger(factory.workspace.local("teach")) as ledger:
        last = ledger.last_run()
    assert last is not None
    return float(str(last["seconds"]))


def busy_share(factory: Factory, num_items: int) -> dict[str, float]:
    """Share of the stage's wall time that items and the loads they need account for."""
    factory.set(
        run={"workers": 1, "teacher": {"restart_after_items": RESTART_EVERY}},
        teachers={"scripted": {"item_s": ITEM_S, "load_s": LOAD_S}},
    )
    seconds = stage_seconds(factory)
    loads = factory.num_loads()
    with Ledger(factory.workspace.local("teach")) as ledger:
        computing = [figures["seconds"] for figures in ledger.figures(last=num_items)]
    busy = sum(computing) + loads * LOAD_S
    return {
        "seconds": seconds,
        "loads": loads,
        "item_ms": 1000 * median(computing),
        "busy_share": busy / seconds,
        "ms_lost_per_item": 1000 * (seconds - busy) / num_items,
    }


def supervision_ms(factory: Factory, num_items: int) -> float:
    """Milliseconds an item with a teacher that does nothing."""
    factory.set(run={"workers": 1})
    return 1000 * stage_seconds(factory) / num_items


def ladder(factory: Factory) -> dict[str, float]:
    """Events on a card that the larger half of the items does not fit."""
    factory.set(run={"workers": 1})
    stage_seconds(factory)
    with Ledger(factory.workspace.local("teach")) as ledger:
        sizes = sorted(figures["size"] for figures in ledger.figures(last=10**6))
    resolution = 384
    card_mb = resolution * sizes[len(sizes) // 2]
    rungs = [{"resolution": 256}, {"resolution": 160}]
    factory.set(teachers={"scripted": {"card_mb": card_mb, "resolution": resolution - 1, "ladder": rungs}})
    too_large = sum((resolution - 1) * size > card_mb for size in sizes)
    clear_evidence(factory)
    stage_seconds(factory)
    events = len((factory.script / "ooms.log").read_text().splitlines())
    reduced = len(factory.rungs())
    return {
        "items": len(sizes),
        "do_not_fit": too_large,
        "events_from_the_top": too_large,
        "events_learnt": events,
        "cut": 1 - events / too_large,
        "made_with_less_though_they_fit": reduced - too_large,
    }


def clear_evidence(factory: Factory) -> None:
    """Forget what a card without limits has taught."""
    with sqlite3.connect(factory.workspace.local("teach") / "ledger.db") as database:
        database.execute("update attempts set figures = null")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepared = make_factory(root / "prepared", arguments.items)
        figures: dict[str, Any] = {
            "busy": busy_share(Factory.copy(prepared, root / "busy"), arguments.items),
            "supervision_ms": supervision_ms(Factory.copy(prepared, root / "noop"), arguments.items),
            "ladder": ladder(Factory.copy(prepared, root / "ladder")),
        }
    print(json.dumps(figures, indent=None if arguments.json else 1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

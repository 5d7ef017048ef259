"""The smallest stage: 4 KB in, 16 KB out, 0.1 ms of work an item. `python -m benchmarks.tiny WORKSPACE` runs it."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from models.params import Block
from tasks.engine.runner import run_stage
from tasks.engine.stage import Context, Item, Output, Stage, Wanted
from tasks.params import Params
from tasks.workspace import Workspace

WORK_S = 0.0001
OUTPUT_BYTES = 16 << 10


class TinyParams(Block):
    salt: str = ""


class Tiny(Stage):
    """Reads a file of the inbox and writes four times as much."""

    name = "tiny"
    Params = TinyParams

    def wanted(self, context: Context) -> Iterator[Wanted]:
        with os.scandir(context.workspace / "inbox") as entries:
            paths = [Path(path) for path in sorted(entry.path for entry in entries if entry.name.endswith(".bin"))]
        for path in paths:
            yield Wanted(item_id(path), path.stem, (("bin", context.digest(path)),), payload=path.name)

    def start(self, context: Context) -> Callable[[Item], Output]:
        def run(item: Item) -> Output:
            return Output({"out.bin": compute((context.workspace / "inbox" / context.payload(item.id)).read_bytes())})

        return run


def compute(data: bytes) -> bytes:
    """0.1 ms of work, then 16 KB that depend on all of the input."""
    until = time.perf_counter() + WORK_S
    block = hashlib.sha256(data).digest()
    while time.perf_counter() < until:
        pass
    return block * (OUTPUT_BYTES // len(block))


def item_id(path: Path) -> str:
    return hashlib.sha256(path.name.encode()).hexdigest()[:16]


def main() -> None:
    from benchmarks.tiny import Tiny  # as workers find it, not as __main__

    workspace = Path(sys.argv[1])
    outcome = run_stage(Tiny(), Workspace(workspace), Params({}, [Tiny()]), {})
    figures = {"computed": outcome.computed, "done": outcome.done, "exit_code": outcome.exit_code}
    print(json.dumps(figures | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()

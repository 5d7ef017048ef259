"""The item engine against a bare loop: 4 KB in, 16 KB out, 0.1 ms of work an item.

python -m benchmarks.engine --items 10000 [--kills 40] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tiny import compute, item_id
from tasks.collections.ledger import Ledger
from tasks.engine.worker import open_upstream
from tasks.scaffold import create
from tasks.workspace import Workspace

REPEATS = 3


def bare_loop(inbox: Path, out: Path) -> float:
    """Seconds of the simplest thing that works: read, compute, write one file an item."""
    out.mkdir()
    started = time.perf_counter()
    for path in sorted(inbox.glob("*.bin")):
        (out / path.name).write_bytes(compute(path.read_bytes()))
    return time.perf_counter() - started


def stage_command(workspace: Path) -> list[str]:
    """A fresh process that runs the stage as `python -P -m tasks` does."""
    return [sys.executable, "-P", "-m", "benchmarks.tiny", str(workspace)]


def run_command(workspace: Path) -> dict[str, Any]:
    """Run the stage in a process of its own; its outcome, with `wall_s`, `cpu_s` and the planner's `peak_mb`."""
    started, cpu_before = time.perf_counter(), _cpu_of_children()
    done = subprocess.run(stage_command(workspace), check=True, capture_output=True, text=True, env=environment())
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome | {"wall_s": time.perf_counter() - started, "cpu_s": _cpu_of_children() - cpu_before}


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}


def fill(inbox: Path, num_items: int) -> None:
    rng = random.Random(0)
    for index in range(num_items):
        (inbox / f"item{index:06d}.bin").write_bytes(rng.randbytes(4096))


def kill_at_work(workspace: Workspace, num_kills: int, seconds: float) -> int:
    """Start the stage and SIGKILL its process group, num_kills times; how many kills hit work.

    A kill is aimed at work, not at Python's start: it waits for a new spool, then for a random moment. seconds: what
    the work takes without kills; the moments are drawn so that it is not done before the last of them.
    """
    rng, hits = random.Random(1), 0
    for _ in range(num_kills):
        left_behind = set(workspace.local("tiny").glob("spool-*"))
        process = subprocess.Popen(
            stage_command(workspace.root),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and not set(workspace.local("tiny").glob("spool-*")) - left_behind:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, seconds / num_kills))
        hits += process.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return hits


def wrong_items(workspace: Workspace, num_items: int) -> int:
    """Items whose bytes are not what the computation gives, absent ones included."""
    upstream, wrong = open_upstream(workspace, "tiny"), num_items
    for path in (workspace.root / "inbox").glob("*.bin"):
        if item_id(path) in upstream.records:
            wrong -= upstream.read(item_id(path), "out.bin") == compute(path.read_bytes())
    return wrong


def change(inbox: Path, num_changed: int) -> None:
    """Change some files, spread over all of them, to what they have never been."""
    paths = sorted(inbox.glob("*.bin"))
    for path in paths[:: len(paths) // num_changed][:num_changed]:
        data = path.read_bytes()
        path.write_bytes(data[1:] + data[:1])


def measure(num_items: int, num_kills: int, folder: Path) -> dict[str, Any]:
    """All figures. Machines are noisy: the bare loop runs before and after the engine, short runs count by median.

    CPU seconds, workers included, stand beside the wall-clock ones: they hold on a machine that others use too.
    """
    workspace = Workspace(folder / "workspace")
    create(workspace.root)
    inbox, num_changed = workspace.root / "inbox", max(1, num_items // 100)
    fill(inbox, num_items)
    bare_s = bare_loop(inbox, folder / "bare_before")
    first = run_command(workspace.root)
    bare_s = (bare_s + bare_loop(inbox, folder / "bare_after")) / 2
    no_ops = [run_command(workspace.root) for _ in range(REPEATS)]
    partials = []
    for _ in range(REPEATS):
        change(inbox, num_changed)
        partials.append(run_command(workspace.root))
    figures = {
        "items": num_items,
        "bare_loop_s": bare_s,
        "first_s": first["wall_s"],
        "first_computed": first["computed"],
        "overhead_ms_an_item": (first["wall_s"] - bare_s) / num_items * 1000,
        "first_cpu_s": first["cpu_s"],
        "planner_peak_mb": max(run["peak_mb"] for run in (first, *no_ops, *partials)),
        "no_op_s": statistics.median(run["wall_s"] for run in no_ops),
        "no_op_cpu_s": statistics.median(run["cpu_s"] for run in no_ops),
        "no_op_computed": sum(run["computed"] for run in no_ops),
        "changed": num_changed,
        "changed_computed": max(run["computed"] for run in partials),
        "changed_s": statistics.median(run["wall_s"] for run in partials),
    }
    if num_kills:
        shutil.rmtree(workspace.root / "artifacts")
        shutil.rmtree(workspace.root / ".lostwax")
        hits = kill_at_work(workspace, num_kills, first["wall_s"] - figures["no_op_s"])
        run_command(workspace.root)
        with Ledger(workspace.local("tiny")) as ledger:
            twice = sum(count > 1 for count in ledger.times_done().values())
        figures |= {"kills": num_kills, "kills_at_work": hits, "computed_twice": twice}
        figures |= {"wrong_after_kills": wrong_items(workspace, num_items)}
    figures["files"] = sum(
        path.is_file() for name in ("artifacts", ".lostwax") for path in (workspace.root / name).rglob("*")
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lostwax-engine-") as folder:
        figures = measure(chosen.items, chosen.kills, Path(folder))
    if chosen.json:
        print(json.dumps(figures, indent=1))
    else:
        for name, value in figures.items():
            print(f"{name:<22}{value:.4g}" if isinstance(value, float) else f"{name:<22}{value}")


if __name__ == "__main__":
    main()

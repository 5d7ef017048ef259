"""One Prefect task an item, for comparison with the item engine: the same work, the same machine.

    python -m benchmarks.prefect_tasks [--items 200] [--json]

The server is Prefect's own ephemeral one, in a home of its own. In Prefect's favour neither its start is counted nor
the events that drain behind the last task: the loop is timed inside the flow, beside a bare loop over the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.engine import bare_loop, fill
from benchmarks.tiny import compute


def measure(num_items: int, folder: Path) -> dict[str, Any]:
    """Seconds of a flow that submits one task an item, against a bare loop over the same items."""
    from prefect import flow, task

    @task(persist_result=False)
    def one_item(path: Path, out: Path) -> None:
        (out / path.name).write_bytes(compute(path.read_bytes()))

    @flow(persist_result=False)
    def all_items(paths: list[Path], out: Path) -> float:
        started = time.perf_counter()
        for future in [one_item.submit(path, out) for path in paths]:
            future.result()
        return time.perf_counter() - started

    inbox, out = folder / "inbox", folder / "out"
    inbox.mkdir()
    out.mkdir()
    fill(inbox, num_items)
    flow_s = all_items(sorted(inbox.glob("*.bin")), out)
    bare_s = bare_loop(inbox, folder / "bare")
    return {
        "items": num_items,
        "flow_s": flow_s,
        "bare_loop_s": bare_s,
        "overhead_ms_an_item": (flow_s - bare_s) / num_items * 1000,
    }


def isolate(home: Path) -> None:
    """Give Prefect a database of this benchmark's own, and keep it quiet. Before its import, which reads all this."""
    os.environ |= {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
    }
    os.environ.pop("PREFECT_API_URL", None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lostwax-prefect-") as folder:
        isolate(Path(folder) / "home")
        figures = measure(chosen.items, Path(folder))
    if chosen.json:
        print(json.dumps(figures, indent=1))
    else:
        for name, value in figures.items():
            print(f"{name:<22}{value:.4g}")


if __name__ == "__main__":
    main()

"""`make bench`: every benchmark in turn, each in a process of its own; the figures land in bench-work/figures.json."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

WORK = Path("bench-work")
COMMANDS = {
    "engine": ["benchmarks.engine", "--items", "10000", "--kills", "40"],
    "engine_100000": ["benchmarks.engine", "--items", "100000"],
    "million": ["benchmarks.million"],
    "teacher": ["benchmarks.teacher"],
    "prefect_tasks": ["benchmarks.prefect_tasks"],
    "chamfer": ["benchmarks.chamfer"],
    "views_128": ["benchmarks.views", "--size", "128"],
    "views_256": ["benchmarks.views", "--size", "256"],
    "distillation": ["benchmarks.distillation"],
    "blind_student": ["benchmarks.blind_student", "--workspace", "demo"],
}


def main(names: list[str]) -> int:
    """Run the named benchmarks (default all); returns how many failed."""
    if unknown := sorted(set(names) - COMMANDS.keys()):
        sys.exit(f"unknown benchmark {unknown[0]!r}; there are: {', '.join(COMMANDS)}")
    WORK.mkdir(exist_ok=True)
    path = WORK / "figures.json"
    figures = json.loads(path.read_text()) if path.is_file() else {}
    failed = 0
    for name in names or COMMANDS:
        print(f"{name} ...", flush=True)
        done = subprocess.run([sys.executable, "-m", *COMMANDS[name], "--json"], stdout=subprocess.PIPE, text=True)
        if done.returncode == 0:
            figures[name] = json.loads(done.stdout)
            print(json.dumps(figures[name], indent=1))
        failed += done.returncode != 0
    path.write_text(json.dumps(figures, indent=1) + "\n")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

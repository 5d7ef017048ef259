"""The front door: the `lostwax` command and `python -m lostwax` enter here, before any package of ours is imported."""

from __future__ import annotations

import getpass
import io
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
PACKAGES = ("flows", "tasks", "models")


def main() -> NoReturn:
    """Run the command, whatever surrounds it."""
    prepare()
    from flows.cli import main as run

    run()


def prepare() -> None:
    """Make this process, and those that it starts, independent of where it was started. Safe to repeat.

    Our packages have common names: where PYTHONPATH or the current folder holds others of these names, ours are put
    before them. A user id without a name (a container's) is given one, for DVC and torch ask for it. What standard
    output cannot encode is written as an escape; where it is closed, output goes nowhere.
    """
    if any(_found_in(name) != ROOT for name in PACKAGES):
        sys.path.insert(0, str(ROOT))
        inherited = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  # for as long as the process lives


def _found_in(package: str) -> Path | None:
    """The folder in which Python finds a package."""
    spec = PathFinder.find_spec(package)
    return Path(spec.origin).resolve().parent.parent if spec and spec.origin else None


if __name__ == "__main__":
    main()

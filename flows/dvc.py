"""DVC as a program of its own: called with this environment's Python, its failures in its own words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flows.signals import postponing_signals
from tasks.engine.outcome import FAILED, OK, STOPPED, WRONG_USAGE, StageFailed

DVC = [sys.executable, "-P", "-m", "dvc"]
MISUSED = 254
"""DVC's exit code for arguments that it does not know."""
STAGE_EXITED = re.compile(r"exited with (\d+)")


def call(folder: Path, *arguments: str) -> None:
    """`dvc ARGUMENTS` in a folder. Raises StageFailed with DVC's reason.

    Never with --quiet: DVC then keeps its reasons to itself. Signals wait until it has ended, for it writes dvc.lock.
    """
    with postponing_signals():
        done = subprocess.run(
            [*DVC, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,
        )
    if done.returncode != 0:
        raise StageFailed(f"`dvc {' '.join(arguments)}` failed in {folder}: {_reason(done)}")


def repro(folder: Path, arguments: Sequence[str]) -> int:
    """`dvc repro ARGUMENTS` in a folder, its output passed on; returns the exit code of the stage that ended it.

    dvc.yaml's stages call `python`: the one of this environment is put first on PATH.
    """
    process = subprocess.Popen(
        [*DVC, "repro", *arguments],
        cwd=folder,
        env=os.environ | {"PATH": _path_with_our_python()},
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert process.stderr is not None
    exited_with = FAILED
    try:
        for line in process.stderr:
            sys.stderr.write(line)
            if found := STAGE_EXITED.search(line):
                exited_with = int(found[1])
        code = process.wait()
        return {0: OK, MISUSED: WRONG_USAGE}.get(code, exited_with)
    except KeyboardInterrupt:  # DVC and the stage were interrupted, too
        process.wait()
        return STOPPED


def _path_with_our_python() -> str:
    folder = Path(sys.executable).parent
    if not (folder / "python").exists():
        raise StageFailed(
            f"dvc.yaml calls `python`, which {folder} does not have; make it: ln -s {sys.executable} {folder}/python"
        )
    return os.pathsep.join([str(folder), os.environ.get("PATH", os.defpath)])


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Its lines that begin with ERROR, else the last one that it wrote."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return "; ".join(errors or lines[-1:]) or f"exit code {done.returncode}"

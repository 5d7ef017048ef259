"""Make a workspace a DVC repository: with Git where the workspace is a Git checkout's root, without it elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SETTINGS = {
    "core.analytics": "false",
    "core.check_update": "false",
    "core.autostage": "false",
    "cache.type": "reflink,hardlink,copy",
}


def init_dvc(folder: Path) -> list[str]:
    """Returns what was made; nothing where it is one already. Raises RuntimeError with DVC's own words."""
    if (folder / ".dvc").is_dir():
        return []
    with_git = (folder / ".git").exists()
    _dvc(folder, "init", "--quiet", *([] if with_git else ["--no-scm"]))
    for name, value in SETTINGS.items():
        _dvc(folder, "config", "--quiet", name, value)
    return [".dvc/"]


def _dvc(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"dvc {' '.join(arguments)} failed in {folder}: {done.stderr.strip()}")

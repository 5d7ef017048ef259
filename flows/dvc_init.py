"""Make a workspace a DVC repository: with Git where the workspace is a Git checkout's root, without it elsewhere."""

from __future__ import annotations

from pathlib import Path

from flows.dvc import call

SETTINGS = {
    "core.analytics": "false",
    "core.check_update": "false",
    "core.autostage": "false",
    "cache.type": "reflink,hardlink,copy",
}


def init_dvc(folder: Path) -> list[str]:
    """Returns what was made; nothing where it is one already. Raises StageFailed with DVC's reason."""
    if (folder / ".dvc").is_dir():
        return []
    with_git = (folder / ".git").exists()
    call(folder, "init", *([] if with_git else ["--no-scm"]))
    for name, value in SETTINGS.items():
        call(folder, "config", name, value)
    return [".dvc/"]

"""Where a teacher's weights come from, as its block names them."""

from __future__ import annotations

from pathlib import Path


def hub_id_or_folder(given: str, workspace: Path) -> str:
    """A hub id, or the absolute path of a folder: what has one slash and is no folder here is an id."""
    folder = (workspace / Path(given).expanduser()).absolute()
    is_id = given.count("/") == 1 and not given.startswith((".", "/", "~"))
    return given if is_id and not folder.is_dir() else str(folder)

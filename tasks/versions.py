"""versions.yaml: one number for each stage and plug-in, raised by hand when its results change."""

from __future__ import annotations

from pathlib import Path

import yaml

from tasks.workspace import Workspace, template


def load_versions(path: Path) -> dict[str, int]:
    """{"teach": 1, "teachers.visual_hull": 1, ...}. Raises ValueError for anything but whole numbers."""
    raw = yaml.safe_load(path.read_text()) or {}
    if not isinstance(raw, dict) or not all(isinstance(value, int) for value in raw.values()):
        raise ValueError(f"{path}: every entry must be NAME: whole number")
    return {str(name): number for name, number in raw.items()}


def check_versions(workspace: Workspace) -> dict[str, int]:
    """The workspace's versions. Raises ValueError when they are not those of the installed package."""
    versions, packaged = load_versions(workspace.versions_file), load_versions(template("versions.yaml"))
    if versions != packaged:
        differing = sorted(name for name in versions.keys() | packaged.keys() if versions.get(name) != packaged.get(name))
        raise ValueError(
            f"{workspace.versions_file} differs from the installed lostwax in {', '.join(differing)}; "
            f"bring it up to date with `lostwax init {workspace.root}`"
        )
    return versions

"""versions.yaml: one number for each stage and plug-in, raised by hand when its results change.

stages: {teach: 1}
teachers: {visual_hull: 1}
"""

from __future__ import annotations

from pathlib import Path

from tasks.workspace import Workspace, template
from tasks.yaml_file import read_yaml


def load_versions(path: Path) -> dict[str, int]:
    """{"teach": 1, "teachers.visual_hull": 1, ...}. Raises ValueError for anything but blocks of whole numbers."""
    raw = read_yaml(path).content or {}
    versions: dict[str, int] = {}
    for family, numbers in raw.items() if isinstance(raw, dict) else [("", None)]:
        if not isinstance(numbers, dict) or not all(isinstance(number, int) for number in numbers.values()):
            raise ValueError(f"{path}: every block must be NAME: whole number")
        versions |= {name if family == "stages" else f"{family}.{name}": number for name, number in numbers.items()}
    return versions


def check_versions(workspace: Workspace) -> dict[str, int]:
    """The workspace's versions. Raises ValueError when they are not those of the installed package."""
    versions, packaged = load_versions(workspace.versions_file), load_versions(template("versions.yaml"))
    if versions != packaged:
        differing = sorted(
            name for name in versions.keys() | packaged.keys() if versions.get(name) != packaged.get(name)
        )
        raise ValueError(
            f"{workspace.versions_file} differs from the installed lostwax in {', '.join(differing)}; "
            f"bring it up to date with `lostwax init {workspace.root}`"
        )
    return versions

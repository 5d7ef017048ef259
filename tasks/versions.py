"""versions.yaml: one number for each stage and plug-in, raised by hand when its results change.

stages: {teach: 1}
teachers: {visual_hull: 1}

A plug-in that another package brings has its version with it: the constant VERSION of its module.
"""

from __future__ import annotations

from pathlib import Path

from models import plugins
from tasks.order import ORDER, load_stage
from tasks.params import Params
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


def check_versions(workspace: Workspace, params: Params) -> dict[str, int]:
    """The workspace's versions. Raises ValueError where one that is in use is not that of the installed package."""
    versions, packaged = load_versions(workspace.versions_file), load_versions(template("versions.yaml"))
    if differing := [name for name in entries_in_use(params) if versions.get(name) != packaged.get(name)]:
        raise ValueError(
            f"{workspace.versions_file} differs from the installed lostwax in {', '.join(differing)}; "
            f"bring it up to date with `lostwax init {workspace.root}`"
        )
    return versions


def entries_in_use(params: Params) -> list[str]:
    """Entries of versions.yaml that decide results under these params; plug-ins of other packages have none."""
    entries: set[str] = {*ORDER}
    for stage in map(load_stage, ORDER):
        used = stage.used_plugins(params)
        entries |= {f"{family}.{name}" for family, name in used if plugins.version(family, name) is None}
    return sorted(entries)

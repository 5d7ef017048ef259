"""Options that several commands take, and the workspace they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tasks.params import Params, load_params
from tasks.versions import check_versions
from tasks.workspace import Workspace

WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", help="The workspace, or a folder inside it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
SetOption = Annotated[list[str], typer.Option("--set", help="Change a parameter: block.name=value. Repeatable.")]
HERE = Path()
NONE: list[str] = []


def open_workspace(folder: Path, overrides: list[str]) -> tuple[Workspace, Params, dict[str, int]]:
    """The workspace with validated params and versions."""
    found = Workspace.find(folder)
    params = load_params(found.params_file, overrides)
    return found, params, check_versions(found, params)

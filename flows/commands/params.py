"""`lostwax params`: every knob there is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.options import HERE, JsonOption, WorkspaceOption
from flows.commands.printing import make_table, print_json, say, show_table
from tasks.commands.params import knobs
from tasks.workspace import Workspace
from tasks.yaml_file import read_yaml


def params(
    block: Annotated[str | None, typer.Argument(help="run, a stage, a family, or a plug-in: teachers.trellis.")] = None,
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """List every knob of params.yaml: its default, what it may be, what it does; also what it is set to here.

    Examples: lostwax params train, lostwax params run.attempts, lostwax params teachers.trellis --json
    """
    found = knobs(block, _settings(workspace))
    if as_json:
        print_json({"params": [dataclasses.asdict(knob) for knob in found]})
        return
    table = make_table("name", "default", "here", "may be", "what it does")
    for knob in found:
        default = "must be given" if knob.required else json.dumps(knob.default)
        here = "" if knob.setting in (None, knob.default) else json.dumps(knob.setting, default=str)
        table.add_row(knob.name, default, here, knob.allowed, knob.description)
    show_table(table)


def _settings(folder: Path) -> dict[str, Any]:
    """What the workspace's params.yaml holds, valid or not: who mends it needs the list most. Empty outside of one."""
    try:
        content = read_yaml(Workspace.find(folder).params_file).content
    except FileNotFoundError:
        return {}
    except ValueError as error:
        say(str(error))
        return {}
    return content if isinstance(content, dict) else {}

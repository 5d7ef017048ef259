"""`lostwax teacher`: teachers' environments, and a trial of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import HERE, NONE, SetOption, WorkspaceOption, open_workspace
from flows.commands.printing import say
from tasks.engine.outcome import StageFailed
from tasks.workspace import Workspace


def teacher_try(
    name: Annotated[str, typer.Argument(help="The teacher.")],
    images: Annotated[list[Path], typer.Argument(help="One photo, or views named *_front, *_left, *_back, *_right.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", dir_okay=False, help="The cast to write (.glb, .ply); a picture goes beside it."),
    ],
    workspace: WorkspaceOption = HERE,
    overrides: SetOption = NONE,
) -> None:
    """Run one object through a teacher. Writes what it made and a picture; prints seconds and peak memory.

    Example: lostwax teacher try hunyuan3d cup.jpg -o cup.glb
    """
    from tasks.commands.try_teacher import try_teacher

    found, params, _ = open_workspace(workspace, overrides)
    for line in try_teacher(found, params, name, images, out):
        say(line)


def teacher_setup(
    name: Annotated[str, typer.Argument(help="The teacher.")],
    accept_licence: Annotated[bool, typer.Option(help="Install; else only sizes and licence are shown.")] = False,
    python: Annotated[str, typer.Option(help="The interpreter to make it from.")] = sys.executable,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Make a teacher's own Python environment, at pinned revisions.

    Examples: lostwax teacher setup hunyuan3d, lostwax teacher setup hunyuan3d --accept-licence
    """
    from models.errors import Unavailable
    from models.hosting.environments import SetupFailed, describe, setup

    environments = Workspace.find(workspace).environments
    say(describe(name))
    if not accept_licence:
        say("run again with --accept-licence to install it")
        return
    try:
        say(f"ready: {setup(name, environments, accept_licence=True, say=say, python=python)}")
    except (Unavailable, SetupFailed) as error:
        raise StageFailed(str(error)) from error

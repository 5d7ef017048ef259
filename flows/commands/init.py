"""`lostwax init`: make a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import HERE
from flows.commands.printing import say
from tasks.workspace import create


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make a workspace.")] = HERE,
    dvc: Annotated[bool, typer.Option(help="Make it a DVC repository too.")] = True,
) -> None:
    """Make a workspace, or bring an old one up to date with this lostwax.

    Examples: lostwax init shoes, lostwax init shoes --no-dvc
    """
    from flows.dvc_init import init_dvc

    written = create(folder) + (init_dvc(folder) if dvc else [])
    say(f"{folder}: " + (f"wrote {', '.join(written)}" if written else "up to date"))
    say(f"put meshes or photos into {folder / 'inbox'} (empty: generated objects), then `lostwax run -w {folder}`")

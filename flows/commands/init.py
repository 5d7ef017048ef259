"""`lostwax init`: make a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import HERE
from flows.commands.printing import say
from tasks.scaffold import Generated, create


def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make a workspace.")] = HERE,
    generated: Annotated[Generated | None, typer.Option(help="Of generated objects instead of an inbox.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many objects are generated.")] = 128,
    dvc: Annotated[bool, typer.Option(help="Make it a DVC repository too.")] = True,
) -> None:
    """Make a workspace, or bring an old one up to date with this lostwax. What you wrote or edited stays.

    Examples: lostwax init shoes, lostwax init demo --generated shoes, lostwax init shoes --no-dvc
    """
    from flows.dvc_init import init_dvc

    created = create(folder, generated, count)
    written = created.written + (init_dvc(folder) if dvc else [])
    say(f"{folder}: " + (f"wrote {', '.join(written)}" if written else "up to date"))
    for notice in created.notices:
        say(notice)
    if generated:
        say(f"its objects are {count} generated {generated}; next: `lostwax run -w {folder}`")
    else:
        say(f"put meshes or photos into {folder / 'inbox'}, then `lostwax run -w {folder}`")

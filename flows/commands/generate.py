"""`lostwax generate` and `export-encoder`: trained models at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import HERE, NONE, WorkspaceOption, open_workspace
from flows.commands.printing import say


def generate(
    images: Annotated[list[Path], typer.Argument(help="One photo, or views named *_front, *_left, *_back, *_right.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The mesh to write (.glb).")],
    workspace: WorkspaceOption = HERE,
) -> None:
    """Cast one object through the trained student."""
    from tasks.commands.generate import generate as cast

    found, params, _ = open_workspace(workspace, NONE)
    say(cast(found, params, images, out))


def export_encoder(
    family: Annotated[str, typer.Argument(help="dinov2 or depth_anything.")],
    checkpoint: Annotated[str, typer.Argument(help="A folder with the checkpoint, or its id on the hub.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    image_size: Annotated[int, typer.Option(help="Side of the images it will be given, in pixels.")] = 224,
) -> None:
    """Export the real model class to ONNX and check that both give the same numbers."""
    from models.export_encoder import export_encoder as export

    say(str(export(family, checkpoint, out, image_size)))

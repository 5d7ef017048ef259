"""`lostwax generate`, `students`, `export-encoder` and `fetch-model`: trained models at work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.options import HERE, NONE, JsonOption, WorkspaceOption, open_workspace
from flows.commands.printing import make_table, print_json, say, show_table
from tasks.engine.outcome import StageFailed


def generate(
    images: Annotated[list[Path], typer.Argument(help="One photo, or views named *_front, *_left, *_back, *_right.")],
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="The mesh to write (.glb).")],
    student: Annotated[
        str, typer.Option(help="A student: `train` (the main one), a variant's name, or an id of `lostwax students`.")
    ] = "train",
    seed: Annotated[int, typer.Option(help="Of students that draw.")] = 0,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Make a mesh of one object with a trained student.

    Examples: lostwax generate cup.jpg -o cup.glb, lostwax generate cup_front.png cup_left.png -o cup.glb -w cups
    """
    from tasks.commands.generate import generate as cast

    found, params, _ = open_workspace(workspace, NONE)
    say(cast(found, params, images, out, student=student, seed=seed))


def students(context: typer.Context, workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """List the trained students that are stored: what sets each apart, and its figures.

    Examples: lostwax students, lostwax students --json
    """
    if context.invoked_subcommand is None:
        _list_students(workspace, as_json)


def students_export(
    name: Annotated[str, typer.Argument(help="`train` (the main one), a variant's name, or an id.")],
    folder: Annotated[Path, typer.Argument(help="Where student.json and student.safetensors are written.")],
    workspace: WorkspaceOption = HERE,
) -> None:
    """Write a trained student as two files, to be the teacher `student` of another workspace.

    Example: lostwax students export train ../best
    """
    from tasks.commands.students import export_student
    from tasks.workspace import Workspace

    for path in export_student(Workspace.find(workspace), name, folder):
        say(str(path))


def _list_students(workspace: Path, as_json: bool) -> None:
    from tasks.commands.students import list_students
    from tasks.workspace import Workspace

    found = list_students(Workspace.find(workspace))
    if as_json:
        print_json({"students": [student.to_json() for student in found]})
        return
    if not found:
        say("no student has been trained; run `lostwax run --until train`")
        return
    table = make_table(
        "student", "id", "plug-in", "differs in", "validated", "evaluated", "parameters", "MB", "trained in"
    )
    for student in found:
        selected = student.quality["selected_by"]
        validated = f"{selected} {student.quality[f'val_{selected}']:.4g}" if selected else ""
        lead = next((f"{name} {value:.4g}" for name, value in student.evaluated.items() if name == selected), "")
        table.add_row(
            ", ".join(student.names) or "not published",
            student.id,
            student.plugin,
            "\n".join(f"{name}: {value}" for name, value in student.settings.items()),
            validated,
            lead,
            f"{student.quality['num_parameters']:,}",
            f"{student.bytes / 1e6:.1f}",
            f"{student.seconds:.0f} s" if student.seconds is not None else "elsewhere",
        )
    show_table(table)


def export_encoder(
    family: Annotated[str, typer.Argument(help="dinov2 or depth_anything.")],
    checkpoint: Annotated[str, typer.Argument(help="A folder with the checkpoint, or its id on the hub.")],
    out: Annotated[Path, typer.Option("--out", "-o", dir_okay=False, help="The ONNX file to write.")],
    image_size: Annotated[int, typer.Option(help="Side of the images it will be given, in pixels.")] = 224,
) -> None:
    """Export an encoder's checkpoint to ONNX, and check that both give the same numbers.

    Example: lostwax export-encoder dinov2 facebook/dinov2-small -o weights/dinov2.onnx
    """
    from models.export_encoder import export_encoder as export

    say(str(export(family, checkpoint, out, image_size)))


def fetch_model(
    name: Annotated[str, typer.Argument(help="A matte model that rembg publishes: u2netp, isnet-general-use, ...")],
) -> None:
    """Fetch a matte model to this machine, verified; one that is here already costs nothing.

    Example: lostwax fetch-model u2netp
    """
    from models.errors import Unavailable
    from models.mattes.rembg.published import PUBLISHED, fetch

    try:
        path = fetch(name)
    except Unavailable as error:
        raise StageFailed(str(error)) from error
    say(f"{name} is at {path}; its terms: {PUBLISHED[name].licence}")

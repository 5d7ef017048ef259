"""`lostwax generate`: photos of one object through the training matte, crop and features, then a student."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.cameras import NAMED_AZIMUTHS_DEG
from models.casts import kind_of
from models.errors import BadInput, EmptyOutput, Unavailable
from models.onnx import Machine
from models.students import Ask
from models.trained import load_student, needs_of, preparation_of
from models.views import decode_rgba, split_view
from tasks.collections.files import write_atomically
from tasks.commands.students import open_student
from tasks.engine.outcome import StageFailed
from tasks.params import Params
from tasks.stages.prepare import prepare_images, prepared_as
from tasks.stages.students import MAIN
from tasks.workspace import Workspace


def generate(
    workspace: Workspace,
    params: Params,
    images: list[Path],
    out: Path,
    *,
    student: str = MAIN,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Write the cast of the object in `images` to `out`, in the format that its suffix names; returns a line about it.

    student: as `tasks.commands.students.open_student` takes it. seed: of students that draw. options: fields of the
    student's block that only prediction reads.

    Raises ValueError for images that cannot be views of one object and for a suffix that its kind of cast does not
    write, StageFailed where there is no trained student or a model is missing.
    """
    files = open_student(workspace, student)
    try:
        trained, needs = load_student(files, options), needs_of(files)
        params = prepared_as(preparation_of(files), params)
    except (KeyError, ValueError, RuntimeError) as error:
        raise StageFailed(
            f"the trained student is of another version of lostwax ({type(error).__name__}: {error}); "
            "`lostwax run --until train` makes it anew"
        ) from error
    started = time.perf_counter()
    try:
        machine = Machine(workspace.root, "cpu", 1)
        item = prepare_images(read_images(images), params, machine, needs, trained.spec.forms)
        cast = trained.predict(item, Ask(seed))
    except (BadInput, EmptyOutput) as error:
        raise ValueError(str(error)) from error
    except Unavailable as error:
        raise StageFailed(str(error)) from error
    kind = kind_of(cast)
    if out.suffix.lower() not in kind.EXPORTS:
        raise ValueError(f"{out}: the student's casts are written as {', '.join(kind.EXPORTS)}")
    milliseconds = (time.perf_counter() - started) * 1000
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, kind.EXPORTS[out.suffix.lower()](cast))
    return f"{out}: {kind.describe(cast)}, from {', '.join(by_view(images))} in {milliseconds:.0f} ms"


def read_images(images: list[Path]) -> dict[str, npt.NDArray[np.uint8]]:
    """(H, W, 4) uint8 by view. Raises BadInput naming the file, and what `by_view` raises."""
    read = {}
    for view, path in by_view(images).items():
        try:
            read[view] = decode_rgba(path.read_bytes())
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
    return read


def by_view(images: list[Path]) -> dict[str, Path]:
    """Images by view: `shoe_left.png` is the left view; a single image without a view's name is the front.

    Raises ValueError for two images of one view, and for several of which one is unnamed; FileNotFoundError.
    """
    found: dict[str, Path] = {}
    for path in images:
        if not path.is_file():
            raise FileNotFoundError(f"no image at {path}")
        _, view = split_view(path.stem)
        if view is None and len(images) > 1:
            raise ValueError(f"{path.name}: of several images each is named *_{', *_'.join(NAMED_AZIMUTHS_DEG)}")
        view = view or "front"
        if view in found:
            raise ValueError(f"{path.name} and {found[view].name} are both the {view} view")
        found[view] = path
    return found

"""`lostwax generate`: photos of one object through the training matte, crop and features, then the student."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.cameras import NAMED_AZIMUTHS_DEG
from models.errors import BadInput, EmptyOutput, Unavailable
from models.onnx import Machine
from models.views import decode_rgba, split_view
from tasks.collections.files import write_atomically
from tasks.engine.outcome import StageFailed
from tasks.engine.worker import open_upstream
from tasks.params import Params
from tasks.stages.prepare import prepare_images, prepared_as
from tasks.stages.train import load_student, preparation_of
from tasks.workspace import Workspace


def generate(workspace: Workspace, params: Params, images: list[Path], out: Path) -> str:
    """Write the mesh of the object in `images` to `out`; returns a line about it.

    Raises ValueError for images that cannot be views of one object, StageFailed where there is no trained student or a
    model is missing.
    """
    if out.suffix.lower() != ".glb":
        raise ValueError(f"{out}: the student writes .glb files")
    train = open_upstream(workspace, "train")
    if "train" not in train.records:
        raise StageFailed(f"no trained student in {workspace.root}; run `lostwax run --until train`")
    files = {name: train.read("train", name) for name in train.records["train"].files}
    try:
        student, params = load_student(files), prepared_as(preparation_of(files), params)
    except (KeyError, ValueError, RuntimeError) as error:
        raise StageFailed(
            f"the trained student is of another version of lostwax ({type(error).__name__}: {error}); "
            "`lostwax run --until train` makes it anew"
        ) from error
    machine = Machine(workspace.root, "cpu", 1)
    started = time.perf_counter()
    try:
        prepared = prepare_images(read_images(images), params, machine)
    except (BadInput, EmptyOutput) as error:
        raise ValueError(str(error)) from error
    except Unavailable as error:
        raise StageFailed(str(error)) from error
    if prepared.encoder != student.spec.encoder:
        raise StageFailed(f"the student was trained on grids of {student.spec.encoder}; here is {prepared.encoder}")
    (mesh,) = student.predict(prepared.tokens_VHWC[None], prepared.views)
    milliseconds = (time.perf_counter() - started) * 1000
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, mesh.to_glb())
    shape = f"{len(mesh.vertices_N3)} vertices, {len(mesh.faces_F3)} triangles"
    return f"{out}: {shape}, from {', '.join(prepared.views)} in {milliseconds:.0f} ms"


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

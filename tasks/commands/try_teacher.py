"""`lostwax teacher try`: one object through a teacher, with what it costs, before thousands are paid for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from models import plugins
from models.errors import BadInput, BrokenMachine, EmptyOutput, ItemFailed, Unavailable
from models.geometry import Mesh
from models.onnx import Machine
from models.teachers import unfit
from models.views import Views, encode_png
from tasks.collections.files import write_atomically
from tasks.commands.generate import by_view, read_images
from tasks.engine.outcome import StageFailed, counted
from tasks.engine.stage import Context
from tasks.engine.worker import resolve_device
from tasks.params import Params
from tasks.stages.matte import Cutter
from tasks.stages.teach import accept, site_of
from tasks.workspace import Workspace

PICTURE_PX = 256


def try_teacher(workspace: Workspace, params: Params, name: str, images: list[Path], out: Path) -> list[str]:
    """Write the teacher's mesh to `out` and a picture of it beside that; returns what to tell.

    Images are matted and cropped as the stage matte does. Raises ValueError for images or a teacher that cannot be
    used, StageFailed where the teacher cannot run or fails.
    """
    if out.suffix.lower() != ".glb":
        raise ValueError(f"{out}: the mesh is written as .glb")
    module = plugins.load("teachers", name)
    if reason := unfit(module, by_view(images), has_cameras=False):
        raise ValueError(f"the {name} teacher can do nothing with these images: {reason}")
    if hasattr(module, "find_files"):
        raise ValueError(f"the {name} teacher reads what was made elsewhere: there is nothing to try it with")
    try:
        views = _cut(workspace, params, images)
        device = resolve_device(params.run.device, 0)
        context = Context(workspace.root, params, device, 1, workspace.local("teach"), {}, lambda _: None)
        started = time.perf_counter()
        teacher = module.create(params.plugin("teachers", name), site_of(context))
        loaded_s = time.perf_counter() - started
        try:
            started = time.perf_counter()
            made, quality = accept(teacher.generate(views, seed=0, name=out.stem))
            seconds = time.perf_counter() - started
        finally:
            teacher.close()
    except BadInput as error:
        raise ValueError(str(error)) from error
    except (Unavailable, BrokenMachine, EmptyOutput) as error:
        raise StageFailed(f"{name}: {error}") from error
    except ItemFailed as error:
        raise StageFailed(f"{name}: {error.failure_class}: {error}\n{error.detail}".strip()) from error
    if (mesh := made.mesh) is None:
        raise StageFailed(f"{name} made no mesh, and nothing else can be shown here; the stage teach stores it")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, mesh.to_glb())
    picture = out.with_suffix(".png")
    write_atomically(picture, encode_png(_picture(views, mesh)))
    peaks = [("peak_vram_mb", "of GPU memory"), ("peak_rss_mb", "of memory")]
    memory = [f"{made.measured[key]:.0f} MB {words}" for key, words in peaks if made.measured.get(key)]
    reduced = [f"made at rung {made.rung} of the ladder"] if made.rung else []
    return [
        f"{out}: {quality['vertices']} vertices, {quality['faces']} triangles, "
        f"{counted(quality['components'], 'piece')}, {'closed' if quality['watertight'] else 'not closed'}",
        f"{picture}: what it was given, and the mesh from around",
        ", ".join([f"{seconds:.1f} s after {loaded_s:.1f} s of loading", *memory, *reduced]),
        f"licence of what it makes: {teacher.licence}",
    ]


def _cut(workspace: Workspace, params: Params, images: list[Path]) -> Views:
    cutter = Cutter(params, Machine(workspace.root, "cpu", 1))
    cut = {view: cutter.cut(rgba_HW4).rgba_SS4 for view, rgba_HW4 in read_images(images).items()}
    return Views(tuple(cut), np.stack(list(cut.values())))


def _picture(views: Views, mesh: Mesh) -> Any:
    """(H, W, 3) uint8 on white: the first view that was given, then the mesh from four sides."""
    from PIL import Image

    from models.rendering import turntable_strip

    given = Image.fromarray(views.rgba_VHW4[0]).resize((PICTURE_PX, PICTURE_PX))
    strip_HW4 = np.concatenate([np.asarray(given), turntable_strip(mesh, num_views=4, size_px=PICTURE_PX)], axis=1)
    alpha_HW1 = strip_HW4[..., 3:] / 255
    return np.rint(strip_HW4[..., :3] * alpha_HW1 + 255 * (1 - alpha_HW1)).astype(np.uint8)

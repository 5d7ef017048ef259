"""`lostwax teacher try`: one object through a teacher, with what it costs, before thousands are paid for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models import plugins
from models.casts import Cast, kind_of
from models.errors import BadInput, BrokenMachine, EmptyOutput, ItemFailed, Unavailable
from models.geometry import ByteArray
from models.onnx import Machine
from models.teachers import Wants, unfit
from models.views import Views, encode_png
from tasks.collections.files import write_atomically
from tasks.commands.generate import by_view, read_images
from tasks.engine.outcome import StageFailed, counted
from tasks.engine.stage import Context
from tasks.engine.worker import resolve_device
from tasks.params import Params
from tasks.stages.matte import Cutter
from tasks.stages.prepare import prepare_images, prepared_as
from tasks.stages.teach import accept, site_of
from tasks.workspace import Workspace

PICTURE_PX = 256


def try_teacher(workspace: Workspace, params: Params, name: str, images: list[Path], out: Path) -> list[str]:
    """Write the teacher's cast to `out`, in the format that its suffix names, and a picture of it beside that; returns
    what to tell.

    Images are matted and cropped as the stage matte does. Raises ValueError for images or a teacher that cannot be
    used, StageFailed where the teacher cannot run or fails, or makes nothing of that format.
    """
    formats = {suffix for kind in plugins.known("casts") for suffix in plugins.load("casts", kind).EXPORTS}
    if out.suffix.lower() not in formats:
        raise ValueError(f"{out}: casts are written as {', '.join(sorted(formats))}")
    module = plugins.load("teachers", name)
    if reason := unfit(module, by_view(images), has_cameras=False):
        raise ValueError(f"the {name} teacher can do nothing with these images: {reason}")
    if hasattr(module, "find_files"):
        raise ValueError(f"the {name} teacher reads what was made elsewhere: there is nothing to try it with")
    try:
        block = params.plugin("teachers", name)
        wants: Wants | None = module.wants(block, workspace.root) if hasattr(module, "wants") else None
        prepared = prepared_as(wants.preparation, params) if wants else params
        views = _views(workspace, prepared, wants, read_images(images))
        device = resolve_device(params.run.device, 0)
        context = Context(workspace.root, params, device, 1, workspace.local("teach"), {}, lambda _: None)
        started = time.perf_counter()
        teacher = module.create(block, site_of(context))
        loaded_s = time.perf_counter() - started
        try:
            started = time.perf_counter()
            made, _ = accept(teacher.generate(views, seed=0, name=out.stem))
            seconds = time.perf_counter() - started
        finally:
            teacher.close()
    except BadInput as error:
        raise ValueError(str(error)) from error
    except (Unavailable, BrokenMachine, EmptyOutput) as error:
        raise StageFailed(f"{name}: {error}") from error
    except ItemFailed as error:
        raise StageFailed(f"{name}: {error.failure_class}: {error}\n{error.detail}".strip()) from error
    cast = next((cast for cast in made.casts if out.suffix.lower() in kind_of(cast).EXPORTS), None)
    if cast is None:
        there = [f"{kind_of(cast).describe(cast)} ({', '.join(kind_of(cast).EXPORTS)})" for cast in made.casts]
        raise StageFailed(f"{name} made nothing that is written as {out.suffix}, but {', '.join(there)}")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, kind_of(cast).EXPORTS[out.suffix.lower()](cast))
    picture, drawn_VHW4 = out.with_suffix(".png"), _drawn(cast)
    write_atomically(picture, encode_png(_picture(views, drawn_VHW4)))
    beside = "and the cast from around" if len(drawn_VHW4) else "alone: a cast of this kind cannot be drawn"
    peaks = [("peak_vram_mb", "of GPU memory"), ("peak_rss_mb", "of memory")]
    memory = [f"{made.measured[key]:.0f} MB {words}" for key, words in peaks if made.measured.get(key)]
    reduced = [f"made at rung {made.rung} of the ladder"] if made.rung else []
    return [
        f"{out}: {_size(cast)}",
        f"{picture}: what it was given, {beside}",
        ", ".join([f"{seconds:.1f} s after {loaded_s:.1f} s of loading", *memory, *reduced]),
        f"licence of what it makes: {teacher.licence}",
    ]


def _views(workspace: Workspace, params: Params, wants: Wants | None, images: Mapping[str, ByteArray]) -> Views:
    """The images cut out, and what else the teacher wants of them."""
    machine = Machine(workspace.root, "cpu", 1)
    cutter = Cutter(params, machine)
    cut = {view: cutter.cut(rgba_HW4).rgba_SS4 for view, rgba_HW4 in images.items()}
    given = prepare_images(images, params, machine, wants.needs, wants.forms) if wants else None
    return Views(tuple(cut), np.stack(list(cut.values())), given=given)


def _size(cast: Cast) -> str:
    """In words; of a mesh also its pieces, and whether it is closed."""
    kind = kind_of(cast)
    figures = kind.check(cast)
    words = [kind.describe(cast)]
    if "watertight" in figures:
        words += [counted(figures["components"], "piece"), "closed" if figures["watertight"] else "not closed"]
    return ", ".join(words)


def _drawn(cast: Cast) -> ByteArray:
    """(V, H, W, 4) from four sides; V is 0 where it cannot be drawn."""
    from models.rendering import turntable_cameras

    found = kind_of(cast).rendering(cast, turntable_cameras(4, PICTURE_PX), PICTURE_PX)
    return np.zeros((0, PICTURE_PX, PICTURE_PX, 4), np.uint8) if found is None else np.asarray(found)


def _picture(views: Views, drawn_VHW4: ByteArray) -> ByteArray:
    """(H, W, 3) uint8 on white: the first view that was given, then the cast."""
    from PIL import Image

    given = Image.fromarray(views.rgba_VHW4[0]).resize((PICTURE_PX, PICTURE_PX))
    strip_HW4 = np.concatenate([np.asarray(given), *drawn_VHW4], axis=1)
    alpha_HW1 = strip_HW4[..., 3:] / 255
    on_white: ByteArray = np.rint(strip_HW4[..., :3] * alpha_HW1 + 255 * (1 - alpha_HW1)).astype(np.uint8)
    return on_white

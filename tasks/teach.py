"""teach: the teacher's mesh and Gaussians of every item, checked before they are taken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import Field

from models import plugins
from models.cameras import NAMED_AZIMUTHS_DEG, Camera
from models.errors import BadInput, EmptyOutput
from models.geometry import FRAME, Mesh, face_areas
from models.params import Block
from models.teachers import Shape, Teacher
from models.topology import components, is_watertight, volume
from models.views import Views, decode_rgba
from tasks.stage import Context, Item, Json, Output, Record, Stage

CAMERAS = "cameras.json"
VIEW = "view."
BOX_TOLERANCE = 0.02
"""How far outside the canonical box a teacher's vertices may lie."""


class TeachParams(Block):
    """The `teach` block."""

    teacher: str = "visual_hull"
    """Plug-in of models/teachers; its own block is `teachers.NAME`."""
    seed: int = Field(0, ge=0)
    """Every item draws its own seed from this and its id."""


class Teach(Stage):
    """Writes mesh.glb and, where the teacher makes them, gaussians.ply."""

    name = "teach"
    upstreams = ("matte", "ingest")
    Params = TeachParams

    def plugins(self, params: Any) -> dict[str, str]:
        return {"teachers": params.stage(self.name).teacher}

    def skip(self, records: Mapping[str, Record], params: Any) -> str | None:
        """A teacher that needs cameras has no use for photos."""
        teacher = params.stage(self.name).teacher
        if plugins.load("teachers", teacher).NEEDS_CAMERAS and CAMERAS not in records["matte"].files:
            return f"the {teacher} teacher needs cameras, and this item has none (photos)"
        return None

    def reads(self, records: Mapping[str, Record], params: Any) -> Iterable[tuple[str, str]]:
        """The matted views and their cameras: labels do not change what a teacher makes."""
        names = sorted(records["matte"].files)
        return [("matte", name) for name in names if name.startswith(VIEW) or name == CAMERAS]

    def start(self, context: Context) -> Callable[[Item], Output]:
        params: TeachParams = context.params.stage(self.name)
        block = context.params.plugin("teachers", params.teacher)
        teacher: Teacher = plugins.load("teachers", params.teacher).create(block, context.device)

        def run(item: Item) -> Output:
            shape = teacher.generate(read_views(item), seed=item_seed(params.seed, item.id))
            quality = check(shape)
            files = {"mesh.glb": shape.mesh.to_glb()}
            if shape.gaussians is not None:
                files["gaussians.ply"] = shape.gaussians.to_ply()
            facts = {"teacher": params.teacher, "licence": teacher.licence}
            return Output(files, frame=FRAME, quality=quality, facts=facts)

        return run


def read_views(item: Item) -> Views:
    """The item's matted views: the named ones first, then the others by name."""
    present = [name.removeprefix(VIEW).removesuffix(".png") for name in item.names("matte", VIEW)]
    names = [name for name in NAMED_AZIMUTHS_DEG if name in present]
    names += [name for name in present if name not in NAMED_AZIMUTHS_DEG]
    if not names:
        raise BadInput(f"item {item.label} has no views")
    images = [decode_rgba(item.read("matte", f"{VIEW}{name}.png")) for name in names]
    cameras = None
    if CAMERAS in item.names("matte"):
        layout = json.loads(item.read("matte", CAMERAS))["views"]
        cameras = tuple(Camera.from_json(layout[name]) for name in names)
    return Views(tuple(names), np.stack(images), cameras)


def item_seed(seed: int, item_id: str) -> int:
    """A seed of 63 bits that depends on the run's seed and the item alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{item_id}".encode()).digest()[:8]) >> 1


def check(shape: Shape) -> dict[str, Json]:
    """Figures of a usable shape, for the record. Raises EmptyOutput for what must not be taken for one."""
    mesh = shape.mesh
    if len(mesh.vertices_N3) == 0 or len(mesh.faces_F3) == 0:
        raise EmptyOutput("the teacher returned a mesh without faces")
    if not np.isfinite(mesh.vertices_N3).all():
        raise EmptyOutput("the teacher's mesh has vertices that are not finite")
    if mesh.faces_F3.min() < 0 or mesh.faces_F3.max() >= len(mesh.vertices_N3):
        raise EmptyOutput("the teacher's mesh has faces that point at no vertex")
    if (reach := float(np.abs(mesh.vertices_N3).max())) > 0.5 + BOX_TOLERANCE:
        raise EmptyOutput(f"the teacher's mesh leaves the canonical box: it reaches {reach:.3f}, and .5 is the limit")
    if (area := float(face_areas(mesh).sum())) <= 0:
        raise EmptyOutput("the teacher's mesh has no area")
    _check_gaussians(shape)
    return {
        "vertices": len(mesh.vertices_N3),
        "faces": len(mesh.faces_F3),
        "watertight": is_watertight(mesh),
        "components": _num_components(mesh),
        "area": round(area, 6),
        "volume": round(volume(mesh), 6),
        **shape.quality,
    }


def _check_gaussians(shape: Shape) -> None:
    if (gaussians := shape.gaussians) is None:
        return
    arrays = (
        gaussians.means_N3,
        gaussians.log_scales_N3,
        gaussians.rotations_N4,
        gaussians.opacity_logits_N,
        gaussians.sh_dc_N3,
    )
    if len(gaussians.means_N3) == 0 or not all(np.isfinite(array).all() for array in arrays):
        raise EmptyOutput("the teacher returned no Gaussians, or some that are not finite")


def _num_components(mesh: Mesh) -> int:
    """Pieces that have faces."""
    return len(np.unique(components(mesh)[mesh.faces_F3[:, 0]]))

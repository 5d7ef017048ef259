"""Hunyuan3D 2.0 (Tencent 2025): a mesh of one image, or of up to four named views with the `mv` variants.

    teachers:
      hunyuan3d: {variant: mini_turbo, preset: fast, weights: weights/hunyuan3d, accept_licence: true}

Runs `hy3dgen` 2.0.2 in a host process (`models/hosting/runtimes/hunyuan3d.py`). Its licence must be accepted in the
block, and is written on every record.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from models.errors import Unavailable
from models.geometry import Mesh
from models.hosting.canonical import Placement
from models.hosting.messages import Arrays
from models.hosting.rungs import check_rungs
from models.hosting.teacher import HostedParams, HostedTeacher
from models.hosting.weights import hub_id_or_folder
from models.teachers import Site, TeacherOutput
from models.views import Views

NEEDS_CAMERAS = False
USES_GPU = True
LICENCE = (
    "Tencent Hunyuan 3D 2.0 Community License Agreement: no rights in the European Union, the United Kingdom and South "
    "Korea; outputs must not be used to improve any AI model but Hunyuan3D and its derivatives, and a model trained on "
    "them to perform similarly is such a derivative, under the same agreement"
)

VIEWS = ("front", "left", "back", "right")
"""What the multi-view variants know. As ours: the camera of `left` stands at +X, 90 degrees from `front` at +Z."""


class Variant(StrEnum):
    """Published weights. The turbo ones are distilled to about 5 steps."""

    MINI = "mini"
    MINI_TURBO = "mini_turbo"
    STANDARD = "standard"
    STANDARD_TURBO = "standard_turbo"
    MV = "mv"
    MV_TURBO = "mv_turbo"

    @property
    def turbo(self) -> bool:
        return self.value.endswith("_turbo")

    @property
    def multi_view(self) -> bool:
        return self.value.startswith("mv")


class Preset(StrEnum):
    """Quality against time and memory."""

    FAST = "fast"
    BALANCED = "balanced"
    HIGH = "high"


class DType(StrEnum):
    """Precision of the networks."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


PUBLISHED = {
    Variant.MINI: ("tencent/Hunyuan3D-2mini", "hunyuan3d-dit-v2-mini"),
    Variant.MINI_TURBO: ("tencent/Hunyuan3D-2mini", "hunyuan3d-dit-v2-mini-turbo"),
    Variant.STANDARD: ("tencent/Hunyuan3D-2", "hunyuan3d-dit-v2-0"),
    Variant.STANDARD_TURBO: ("tencent/Hunyuan3D-2", "hunyuan3d-dit-v2-0-turbo"),
    Variant.MV: ("tencent/Hunyuan3D-2mv", "hunyuan3d-dit-v2-mv"),
    Variant.MV_TURBO: ("tencent/Hunyuan3D-2mv", "hunyuan3d-dit-v2-mv-turbo"),
}
"""Hub id and folder in it."""

PRESETS = {
    False: {
        Preset.FAST: {"steps": 20, "octree_resolution": 256, "num_chunks": 20000},
        Preset.BALANCED: {"steps": 30, "octree_resolution": 384, "num_chunks": 20000},
        Preset.HIGH: {"steps": 50, "octree_resolution": 384, "num_chunks": 8000},
    },
    True: {
        Preset.FAST: {"steps": 5, "octree_resolution": 256, "num_chunks": 20000},
        Preset.BALANCED: {"steps": 5, "octree_resolution": 384, "num_chunks": 20000},
        Preset.HIGH: {"steps": 8, "octree_resolution": 384, "num_chunks": 8000},
    },
}
"""By `Variant.turbo`."""

PER_ITEM = ("steps", "octree_resolution", "num_chunks", "guidance_scale")
"""What a rung of the ladder may change."""

LADDER: list[dict[str, Any]] = [
    {"octree_resolution": 384, "num_chunks": 4000},
    {"octree_resolution": 256, "num_chunks": 4000},
    {"octree_resolution": 192, "num_chunks": 2000},
]


class Params(HostedParams):
    """The `teachers.hunyuan3d` block."""

    LOCAL: ClassVar[frozenset[str]] = HostedParams.LOCAL | {"accept_licence"}

    variant: Variant = Variant.MINI_TURBO
    """mini, standard (both of the front view), mv (of up to four views), each with its turbo form."""
    preset: Preset = Preset.BALANCED
    """fast, balanced or high: steps, octree_resolution and num_chunks where they are not given here."""
    steps: int | None = Field(None, ge=1, le=200)
    """Sampler steps."""
    octree_resolution: int | None = Field(None, ge=8, le=1024)
    """Cells along an edge of the volume; queries and memory grow with its cube."""
    num_chunks: int | None = Field(None, ge=100)
    """Volume points decoded at once: bounds the peak of memory, changes no result."""
    guidance_scale: float = Field(5.0, ge=0)
    """How closely the image is followed."""
    dtype: DType = DType.FLOAT16
    """Precision of the networks; float32 on a CPU."""
    flashvdm: bool = False
    """Decode the volume near the surface only, coarse to fine: several times faster, slightly different."""
    weights: str | None = None
    """Folder (relative to the workspace) with `<variant's folder>/{config.yaml,model.fp16.safetensors}`, or a hub id,
    which is looked for in $HY3DGEN_MODELS before the network is asked. By default the published hub id."""
    accept_licence: bool = False
    """Whether you accept Tencent's licence; without it the teacher does not start."""
    ladder: list[dict[str, Any]] = LADDER
    """Settings to fall back to when memory runs out; those above the block's own octree_resolution are passed over."""

    @field_validator("ladder")
    @classmethod
    def _rungs_can_be_taken(cls, ladder: list[dict[str, Any]]) -> list[dict[str, Any]]:
        check_rungs(ladder, cls, PER_ITEM)
        return ladder


class Settings(Params):
    """The block with its preset, its weights and its ladder written out: what the host is given."""

    subfolder: str
    """The variant's folder among the weights."""
    multi_view: bool
    """Whether it takes views by name."""


def create(params: Params, site: Site) -> HostedTeacher:
    """Starts the host. Raises Unavailable without the licence's acceptance, hy3dgen or weights."""
    if not params.accept_licence:
        raise Unavailable(refusal())
    settings = effective(params, site.workspace)
    return HostedTeacher(
        "hunyuan3d",
        settings,
        site,
        runtime="hunyuan3d",
        licence=LICENCE,
        read_answer=lambda arrays, figures: read_answer(arrays, figures, settings.variant),
        choose_views=lambda views: choose_views(views, multi_view=settings.multi_view),
    )


def refusal() -> str:
    """Why it does not start without acceptance, in the licence's words, and how to opt in."""
    return (
        "Hunyuan3D 2.0 comes under Tencent's own licence, which must be accepted before it is used. In its words: it "
        "'does not apply in the European Union, United Kingdom and South Korea'; you must not use 'any Output or "
        "results ... to improve any other AI model (other than Tencent Hunyuan 3D 2.0 or Model Derivatives thereof)' "
        "(5.b), and a model that learns from its outputs to perform similarly is a Model Derivative (1.g), so your "
        "student comes under it too; above 1 million monthly users it must be asked for (4). Read LICENSE of hy3dgen "
        "2.0.2. To accept it, set teachers.hunyuan3d.accept_licence: true"
    )


def weights(params: Params, workspace: Path) -> Sequence[Path]:
    """The files of a local folder. A hub id stands for itself until its files lie in $HY3DGEN_MODELS."""
    source, subfolder = _source(params, workspace), PUBLISHED[params.variant][1]
    base = os.environ.get("HY3DGEN_MODELS", "~/.cache/hy3dgen")  # where hy3dgen looks before it asks the hub
    folder = Path(base, source, subfolder).expanduser()
    paths = [folder / name for name in ("config.yaml", "model.fp16.safetensors")]
    if Path(source).is_absolute():
        return paths
    return paths if all(path.is_file() for path in paths) else ()


def effective(params: Params, workspace: Path) -> Settings:
    """What the block comes to, with a ladder that only leads down."""
    preset = PRESETS[params.variant.turbo][params.preset]
    given = params.model_dump(exclude_none=True)
    octree = given.get("octree_resolution", preset["octree_resolution"])
    given["ladder"] = [rung for rung in params.ladder if rung.get("octree_resolution", octree) <= octree]
    given["weights"] = _source(params, workspace)
    subfolder = PUBLISHED[params.variant][1]
    return Settings(**{**preset, **given}, subfolder=subfolder, multi_view=params.variant.multi_view)


def choose_views(views: Views, *, multi_view: bool) -> Views:
    """The views that it knows: of one image the front; where none is named so, the first view counts as the front."""
    chosen = views.select(VIEWS if multi_view else VIEWS[:1])
    if chosen.names:
        return chosen
    first = views.select(views.names[:1])
    return replace(first, names=VIEWS[:1])


def read_answer(arrays: Arrays, figures: Mapping[str, Any], variant: Variant) -> TeacherOutput:
    """hy3dgen's mesh in the canonical frame.

    Its axes are ours: Y up, the front faces +Z (the cameras of its texture pipeline say so), counter-clockwise from
    outside. Its box is [-1.01, 1.01]^3, which the object fills more or less.
    """
    placement = Placement.of(arrays["vertices_N3"], np.eye(3))
    quality = {
        "variant": variant.value,
        "steps": figures["steps"],
        "octree_resolution": figures["octree_resolution"],
        "teacher_views": figures["views"],
    }
    return TeacherOutput((placement.mesh(Mesh(arrays["vertices_N3"], arrays["faces_F3"])),), quality=quality)


def _source(params: Params, workspace: Path) -> str:
    return hub_id_or_folder(params.weights or PUBLISHED[params.variant][0], workspace)

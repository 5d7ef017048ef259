"""TRELLIS (Xiang et al. 2025): mesh, Gaussians, voxels and their latents of one image or of several.

    teachers:
      trellis: {root: TRELLIS, weights: weights/TRELLIS-image-large, preset: fast, images: named}

Runs a checkout of its repository in a host process, in the environment that `lostwax teacher setup trellis` makes. On
AMD GPUs its fork wants `environment: {ATTN_BACKEND: sdpa, XFORMERS_DISABLED: "1", SPARSE_BACKEND: torchsparse}`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from models.casts import Cast
from models.errors import EmptyOutput, Unavailable
from models.gaussians import Gaussians
from models.geometry import Mesh
from models.hosting.canonical import Placement
from models.hosting.messages import Arrays
from models.hosting.rungs import check_rungs
from models.hosting.teacher import HostedParams, HostedTeacher
from models.hosting.weights import hub_id_or_folder
from models.normalise import TO_Y_UP
from models.teachers import Site, TeacherOutput
from models.views import Views

NEEDS_CAMERAS = False
USES_GPU = True
LICENCE = "MIT (TRELLIS, code and weights); its modified FlexiCubes, which makes the meshes: Apache-2.0 (NVIDIA)"

NAMED = ("front", "left", "back", "right")
LARGEST_LOGIT = 15.0
"""Of an opacity: TRELLIS's own of 1 has an infinite one in float32."""


class Preset(StrEnum):
    """Steps and guidance of both samplers."""

    FAST = "fast"
    BALANCED = "balanced"
    HIGH = "high"


class Format(StrEnum):
    """What its latents are decoded to."""

    MESH = "mesh"
    GAUSSIAN = "gaussian"


class Images(StrEnum):
    """Which views it is given."""

    FRONT = "front"
    NAMED = "named"
    ALL = "all"


class Mode(StrEnum):
    """How several images guide a sampler: one a step in turn, or the mean of all (as many times the work)."""

    STOCHASTIC = "stochastic"
    MULTIDIFFUSION = "multidiffusion"


PRESETS: dict[Preset, dict[str, Any]] = {
    Preset.FAST: {"structure_steps": 12, "structure_guidance": 7.5, "latent_steps": 12, "latent_guidance": 3.0},
    Preset.BALANCED: {"structure_steps": 25, "structure_guidance": 5.0, "latent_steps": 25, "latent_guidance": 5.0},
    Preset.HIGH: {"structure_steps": 50, "structure_guidance": 7.5, "latent_steps": 50, "latent_guidance": 3.0},
}
"""fast: its examples and its demo. balanced: the defaults of the published weights."""

PER_ITEM = (*PRESETS[Preset.FAST], "formats", "staged_offload")
"""What a rung of the ladder may change."""

LADDER: list[dict[str, Any]] = [
    {"staged_offload": True},
    {"staged_offload": True, "formats": ["mesh"]},
    {"staged_offload": True, "formats": ["mesh"], "structure_steps": 12, "latent_steps": 12},
]


class Params(HostedParams):
    """The `teachers.trellis` block."""

    LOCAL: ClassVar[frozenset[str]] = HostedParams.LOCAL | {"root"}

    root: str | None = None
    """Its checkout, relative to the workspace. By default $TRELLIS_ROOT, else what `lostwax teacher setup` made."""
    weights: str = "microsoft/TRELLIS-image-large"
    """Folder with pipeline.json and ckpts/ (relative to the workspace), or a hub id."""
    preset: Preset = Preset.BALANCED
    """fast, balanced or high: steps and guidance where they are not given here."""
    structure_steps: int | None = Field(None, ge=1, le=200)
    """Steps of the sampler of the occupied voxels."""
    structure_guidance: float | None = Field(None, ge=0)
    """How closely it follows the image."""
    latent_steps: int | None = Field(None, ge=1, le=200)
    """Steps of the sampler of the voxels' latents."""
    latent_guidance: float | None = Field(None, ge=0)
    """How closely it follows the image."""
    formats: tuple[Format, ...] = (Format.MESH, Format.GAUSSIAN)
    """mesh, gaussian or both."""
    images: Images = Images.FRONT
    """The front view, the named ones (front, left, back, right) or all views of the item."""
    mode: Mode = Mode.STOCHASTIC
    """With several images: stochastic (one a step) or multidiffusion (their mean)."""
    staged_offload: bool = False
    """Keep on the GPU only the networks of the stage that is running: less memory, slower, equal results."""
    ladder: list[dict[str, Any]] = LADDER
    """Settings to fall back to when memory runs out, in order."""

    @field_validator("formats")
    @classmethod
    def _there_is_one(cls, formats: tuple[Format, ...]) -> tuple[Format, ...]:
        if not formats:
            raise ValueError("formats must name mesh, gaussian or both")
        return formats

    @field_validator("ladder")
    @classmethod
    def _rungs_can_be_taken(cls, ladder: list[dict[str, Any]]) -> list[dict[str, Any]]:
        check_rungs(ladder, cls, PER_ITEM)
        return ladder


def create(params: Params, site: Site) -> HostedTeacher:
    """Starts the host. Raises Unavailable without TRELLIS's code, environment or weights."""
    return HostedTeacher(
        "trellis",
        effective(params, site.workspace),
        site,
        runtime="trellis",
        licence=LICENCE,
        read_answer=read_answer,
        choose_views=lambda views: choose_views(views, params.images),
        local_settings={"root": str(find_root(params.root, site))},
    )


def weights(params: Params, workspace: Path) -> Sequence[Path]:
    """The files of a local folder; a hub id stands for itself."""
    folder = Path(hub_id_or_folder(params.weights, workspace))
    if not folder.is_absolute():
        return ()
    index = folder / "pipeline.json"
    if not index.is_file():
        return (index,)
    networks = sorted(json.loads(index.read_text())["args"]["models"].values())
    local = [network for network in networks if (folder / network).parent.is_dir()]  # others are of the hub
    return (index, *(folder / f"{network}{end}" for network in local for end in (".json", ".safetensors")))


def effective(params: Params, workspace: Path) -> Params:
    """The block with its preset and its weights written out, and a ladder that makes nothing it was not asked for."""
    given = params.model_dump(exclude_none=True)
    given["ladder"] = [rung for rung in params.ladder if set(rung.get("formats", ())) <= set(params.formats)]
    return Params(**{**PRESETS[params.preset], **given, "weights": hub_id_or_folder(params.weights, workspace)})


def find_root(given: str | None, site: Site) -> Path:
    """The checkout. Raises Unavailable naming what to do."""
    made = site.environments / "trellis" / "TRELLIS"
    from_environment = os.environ.get("TRELLIS_ROOT")
    if given is not None:
        root, named = site.workspace / Path(given).expanduser(), "teachers.trellis.root"
    elif from_environment:
        root, named = Path(from_environment).expanduser(), "TRELLIS_ROOT"
    else:
        root, named = made, f"{made} (neither teachers.trellis.root nor TRELLIS_ROOT is set)"
    if not (root / "trellis" / "pipelines").is_dir():
        raise Unavailable(
            f"there is no checkout of TRELLIS at {root.absolute()}, from {named}: run `lostwax teacher setup trellis`, "
            "or clone https://github.com/microsoft/TRELLIS with its submodules and name its folder in TRELLIS_ROOT"
        )
    return root.absolute()


def choose_views(views: Views, images: Images) -> Views:
    """What it is given. A photo set without named views has its first one for the front."""
    if images is Images.ALL:
        return views
    chosen = views.select(NAMED if images is Images.NAMED else NAMED[:1])
    return chosen if chosen.names else replace(views.select(views.names[:1]), names=NAMED[:1])


def read_answer(arrays: Arrays, figures: Mapping[str, Any]) -> TeacherOutput:
    """Mesh and Gaussians in the canonical frame; voxels and latents in TRELLIS's own, where `placement` leads from.

    TRELLIS has Z up and the front at -Y, in [-.5, .5]^3; the centre of voxel c is (c + .5) / resolution - .5.
    """
    rotation_33 = TO_Y_UP["z"]
    own = _gaussians(arrays) if "gaussians_ply" in arrays else None
    casts: list[Cast] = []
    if "vertices_N3" in arrays:
        placement = Placement.of(arrays["vertices_N3"], rotation_33)
        casts.append(placement.mesh(Mesh(arrays["vertices_N3"], arrays["faces_F3"], arrays.get("colours_N4"))))
    elif own is not None:
        placement = Placement.of_gaussians(own, rotation_33)
    else:
        raise EmptyOutput("TRELLIS returned neither a mesh nor Gaussians")
    if own is not None:
        casts.append(placement.gaussians(own))
    quality = {
        "structure_steps": figures["structure_steps"],
        "latent_steps": figures["latent_steps"],
        "formats": list(figures["formats"]),
        "teacher_views": list(figures["views"]),
        "voxels": len(arrays["coords_N3"]),
        "latents_frame": f"TRELLIS: Z up, voxel c has its centre at (c + .5) / {figures['resolution']} - .5",
        "placement": dict(placement.figures()),
    }
    latents = {name: np.array(arrays[name]) for name in ("coords_N3", "slat_N8")}
    return TeacherOutput(tuple(casts), latents, quality)


def _gaussians(arrays: Arrays) -> Gaussians:
    """In TRELLIS's own frame."""
    own = Gaussians.from_ply(arrays["gaussians_ply"].tobytes())
    return replace(own, opacity_logits_N=own.opacity_logits_N.clip(-LARGEST_LOGIT, LARGEST_LOGIT))

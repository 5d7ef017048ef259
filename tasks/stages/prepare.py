"""A handful of images made ready for a student, by the very code that made its training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput, EmptyOutput
from models.onnx import Machine
from tasks.engine.stage import Json
from tasks.params import Params
from tasks.stages.features import FeatureParams, open_encoder
from tasks.stages.matte import Cutout, Cutter


@dataclass(frozen=True)
class Prepared:
    """V images of one object, in the declared order of views.

    cutouts: what the matte and crop made of them. tokens_VHWC: float16 of `encoder`.
    """

    views: tuple[str, ...]
    cutouts: tuple[Cutout, ...]
    tokens_VHWC: npt.NDArray[np.float16]
    encoder: str


CROP = {"size_px", "padding", "alpha_threshold"}
"""What of the block of matte decides how an object lies in its image."""


def preparation(params: Params) -> dict[str, Json]:
    """The params by which an image becomes a student's grids, as blocks of params.yaml: kept with the student.

    Not the matte's model: a mask is a mask, whoever made it.
    """
    features: FeatureParams = params.stage("features")
    encoder = params.plugin("encoders", features.encoder)
    return {
        "matte": params.stage("matte").model_dump(mode="json", include=CROP),
        "features": {"encoder": features.encoder, "views": list(features.views)},
        "encoders": {features.encoder: encoder.model_dump(mode="json", exclude=set(encoder.LOCAL))},
    }


def prepared_as(kept: Mapping[str, Any], params: Params) -> Params:
    """`params` with what `preparation` kept in place of what they say now. Raises ValueError."""
    raw = dict(params.raw)
    for block in ("matte", "features"):
        raw[block] = {**(raw.get(block) or {}), **kept[block]}
    encoders = dict(raw.get("encoders") or {})
    for name, values in kept["encoders"].items():
        encoders[name] = {**(encoders.get(name) or {}), **values}
    return Params({**raw, "encoders": encoders})


def prepare_images(images: Mapping[str, npt.NDArray[np.uint8]], params: Any, machine: Machine) -> Prepared:
    """Matte, crop and encode images (H, W, 4) by view name, as the stages matte and features would.

    Raises ValueError for a view that is not declared and for no image, BadInput and EmptyOutput naming the view at
    fault, Unavailable where a model cannot run here.
    """
    declared = _declared(images, params)
    cutter = Cutter(params, machine)
    cutouts = []
    for view in declared:
        try:
            cutouts.append(cutter.cut(images[view]))
        except (BadInput, EmptyOutput) as error:
            raise type(error)(f"view {view}: {error}") from error
    encoder = open_encoder(params, machine)
    tokens_VHWC = encoder.encode(np.stack([cutout.rgba_SS4 for cutout in cutouts]))
    return Prepared(declared, tuple(cutouts), tokens_VHWC, encoder.id)


def _declared(images: Mapping[str, Any], params: Any) -> tuple[str, ...]:
    block: FeatureParams = params.stage("features")
    if unknown := sorted(set(images) - set(block.views)):
        raise ValueError(f"there is no view {unknown[0]!r}; params.yaml declares: {', '.join(block.views)}")
    if not images:
        raise ValueError(f"no image given; name one or more of the views {', '.join(block.views)}")
    return tuple(view for view in block.views if view in images)

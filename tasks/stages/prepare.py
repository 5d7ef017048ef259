"""A handful of images made ready for a student, by the very code that made its training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput, EmptyOutput, Unavailable
from models.needs import DEPTH, TOKENS, VIEWS, InHand, Need, Needs
from models.onnx import Machine
from models.views import Views
from tasks.engine.stage import Json
from tasks.params import Params, by_dotted_name
from tasks.stages.features import FeatureParams, open_depth, open_encoder
from tasks.stages.matte import Cutter

Images = npt.NDArray[np.uint8]

CROP = {"size_px", "padding", "alpha_threshold"}
"""What of the block of matte decides how an object lies in its image."""


def preparation(params: Params, needs: Needs) -> dict[str, Json]:
    """The params by which an image becomes what a student needs, as blocks of params.yaml: kept with the student.

    Not the matte's model: a mask is a mask, whoever made it.
    """
    features: FeatureParams = params.stage("features")
    kept: dict[str, Json] = {"views": list(features.views)}
    blocks: dict[str, Json] = {"matte": params.stage("matte").model_dump(mode="json", include=CROP), "features": kept}
    for need, family, name in ((TOKENS, "encoders", features.encoder), (DEPTH, "depths", features.depth)):
        if need in needs.all and name:
            block = params.plugin(family, name)
            kept[family.removesuffix("s")] = name
            blocks[family] = {name: block.model_dump(mode="json", exclude=set(block.LOCAL))}
    return blocks


def unlike(theirs: Mapping[str, Json], here: Mapping[str, Json]) -> list[str]:
    """`features.encoder dct, here dinov2` of all that is set otherwise. Views are not compared: items lack some."""
    there, ours = dict(by_dotted_name(theirs)), dict(by_dotted_name(here))
    names = [name for name in there if name in ours and name.rpartition(".")[2] != "views"]
    return [f"{name} {there[name]}, here {ours[name]}" for name in names if there[name] != ours[name]]


def prepared_as(kept: Mapping[str, Any], params: Params) -> Params:
    """`params` with what `preparation` kept instead of what they say now. Raises ValueError."""
    raw = dict(params.raw)
    for block in ("matte", "features"):
        raw[block] = {**(raw.get(block) or {}), **kept[block]}
    for family in kept.keys() & {"encoders", "depths"}:
        plugins = dict(raw.get(family) or {})
        for name, values in kept[family].items():
            plugins[name] = {**(plugins.get(name) or {}), **values}
        raw[family] = plugins
    return Params(raw)


def prepare_images(
    images: Mapping[str, npt.NDArray[np.uint8]], params: Any, machine: Machine, needs: Needs, forms: Mapping[str, Json]
) -> InHand:
    """What a student is given of images (H, W, 4) by view name, made as the stages matte and features make it.

    forms: those that the student was made for (`Spec.forms`).

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
    rgba_VSS4 = np.stack([cutout.rgba_SS4 for cutout in cutouts])
    values: dict[Need[Any], Any] = {}
    for need in needs.given:
        if need not in MAKERS:
            raise ValueError(f"{need.what} cannot be made of photos")
        values[need] = MAKERS[need](declared, rgba_VSS4, params, machine, forms[need.name])
    return InHand("photo", values, needs.given)


def _make_tokens(views: Sequence[str], rgba_VSS4: Images, params: Any, machine: Machine, form: Json) -> Json:
    encoder = open_encoder(params, machine)
    if encoder.id != form["encoder"]:
        raise Unavailable(f"the student was trained on grids of {form['encoder']}; here is {encoder.id}")
    return dict(zip(views, encoder.encode(rgba_VSS4), strict=True))


def _make_views(views: Sequence[str], rgba_VSS4: Images, params: Any, machine: Machine, form: Json) -> Views:
    """Their cameras are unknown."""
    return Views(tuple(views), rgba_VSS4)


def _make_depth(views: Sequence[str], rgba_VSS4: Images, params: Any, machine: Machine, form: Json) -> Json:
    """Of the views whose depth can be estimated; None where none can."""
    depth = open_depth(params, machine)
    if depth is None:
        return None
    found = {view: depth.estimate(rgba_SS4, None) for view, rgba_SS4 in zip(views, rgba_VSS4, strict=True)}
    return {view: depth_SS for view, depth_SS in found.items() if depth_SS is not None} or None


MAKERS = {TOKENS: _make_tokens, VIEWS: _make_views, DEPTH: _make_depth}
"""How what a student is given is made of photos."""


def _declared(images: Mapping[str, Any], params: Any) -> tuple[str, ...]:
    block: FeatureParams = params.stage("features")
    if unknown := sorted(set(images) - set(block.views)):
        raise ValueError(f"there is no view {unknown[0]!r}; params.yaml declares: {', '.join(block.views)}")
    if not images:
        raise ValueError(f"no image given; name one or more of the views {', '.join(block.views)}")
    return tuple(view for view in block.views if view in images)

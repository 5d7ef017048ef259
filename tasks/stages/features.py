"""features: encoder tokens and depth of the declared views, computed once and read by every student."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from models import plugins
from models.cameras import NAMED_AZIMUTHS_DEG
from models.crop import Square
from models.depths import Depth, RenderedDepth
from models.encoders import Encoder
from models.errors import EmptyOutput
from models.names import there_are
from models.needs import DEPTH, TOKENS
from models.onnx import Machine
from models.params import Block
from models.views import decode_rgba
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, ItemFiles, Json, Offer, Output, Stage

GRIDS = "grids.safetensors"
RING_VIEW = r"ring_\d\d"
"""A view between the named ones, as the stage views names it."""
Grids = Mapping[str, npt.NDArray[Any]]


class FeatureParams(Block):
    encoder: str = "dct"
    """The plug-in that makes the tokens."""
    depth: str | None = "rendered"
    """The plug-in that makes the depth maps, or null for none."""
    views: tuple[str, ...] = Field(tuple(NAMED_AZIMUTHS_DEG), min_length=1)
    """The views that are encoded, in this order: front, left, back, right, ring_00 and on. An item may lack some."""

    @field_validator("views")
    @classmethod
    def _are_views(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in NAMED_AZIMUTHS_DEG and not re.fullmatch(RING_VIEW, name):
                raise ValueError(f"unknown view {name!r}; {there_are([*NAMED_AZIMUTHS_DEG, 'ring_00'], name)}")
        return names


def _read_arrays(files: ItemFiles, kind: str) -> Grids:
    """Arrays by view of one kind, "tokens" or "depth"."""
    from safetensors.numpy import load

    arrays = load(files.read(GRIDS))
    return {name.removeprefix(f"{kind}."): array for name, array in arrays.items() if name.startswith(f"{kind}.")}


def _token_form(record: Record, params: Any) -> Json:
    return {name: record.facts[name] for name in ("encoder", "channels", "grid", "views")}


def _join_token_forms(forms: Sequence[Json], params: Any) -> Json:
    """One encoder and grid; the views that any item has, in the declared order."""
    kinds = {(form["encoder"], form["channels"], *form["grid"]) for form in forms}
    if len(kinds) > 1:
        raise ValueError(f"features are of several kinds: {sorted(kinds)}; run `lostwax run --until features` again")
    present = {name for form in forms for name in form["views"]}
    return {**forms[0], "views": [name for name in params.stage("features").views if name in present]}


class Features(Stage):
    name = "features"
    upstreams = ("matte", "views")
    Params = FeatureParams
    plugin_blocks = ("encoders.${features.encoder}", "depths")
    offers = (
        Offer(
            TOKENS,
            files=lambda record, params: (GRIDS,),
            read=lambda files: _read_arrays(files, "tokens"),
            facts=("encoder",),
            form=_token_form,
            join=_join_token_forms,
        ),
        Offer(
            DEPTH,
            files=lambda record, params: (GRIDS,) if record.facts.get("depth") else (),
            read=lambda files: _read_arrays(files, "depth"),
            facts=("depth", "depth_scale"),
            form=lambda record, params: record.facts["depth"],
        ),
    )

    def plugins(self, params: Any) -> dict[str, str]:
        block: FeatureParams = params.stage(self.name)
        return {"encoders": block.encoder} | ({"depths": block.depth} if block.depth else {})

    def weights(self, params: Any, workspace: Path) -> Sequence[Path]:
        return [
            path
            for family, name in self.plugins(params).items()
            for path in plugins.load(family, name).weights(params.plugin(family, name), workspace)
        ]

    def skip(self, records: Mapping[str, Record], params: Any) -> str | None:
        declared = params.stage(self.name).views
        if _present(records, declared):
            return None
        return f"it has none of the views {', '.join(declared)}"

    def reads(self, records: Mapping[str, Record], params: Any) -> Iterable[tuple[str, str]]:
        block: FeatureParams = params.stage(self.name)
        names = _present(records, block.views)
        read = [("matte", f"view.{name}.png") for name in names]
        if _uses_rendered(block) and _has_depth(records, names):
            read += [("matte", "crops.json"), ("views", "cameras.json")]
            read += [("views", f"depth.{name}.png") for name in names]
        return read

    def start(self, context: Context) -> Callable[[Item], Output]:
        machine = Machine(context.workspace, context.device, context.num_threads)
        block: FeatureParams = context.params.stage(self.name)
        encoder, depth = open_encoder(context.params, machine), open_depth(context.params, machine)
        return lambda item: encode_item(item, block, encoder, depth)


def open_encoder(params: Any, machine: Machine) -> Encoder:
    """The chosen encoder. Raises Unavailable."""
    name = params.stage("features").encoder
    encoder: Encoder = plugins.load("encoders", name).create(params.plugin("encoders", name), machine)
    return encoder


def open_depth(params: Any, machine: Machine) -> Depth | None:
    """The chosen depth plug-in, None where none is. Raises Unavailable."""
    name = params.stage("features").depth
    if name is None:
        return None
    depth: Depth = plugins.load("depths", name).create(params.plugin("depths", name), machine)
    return depth


def encode_item(item: Item, block: FeatureParams, encoder: Encoder, depth: Depth | None) -> Output:
    """Tokens of the views that the item has among the declared ones, and their depth where there is any."""
    from safetensors.numpy import save

    names = _present(item.records, block.views)
    rgba_VSS4 = np.stack([decode_rgba(item.read("matte", f"view.{name}.png")) for name in names])
    tokens_VHWC = encoder.encode(rgba_VSS4)
    if not np.isfinite(tokens_VHWC).all():
        raise EmptyOutput(f"{encoder.id} gives tokens that are not finite in float16")
    arrays: dict[str, Any] = {f"tokens.{name}": tokens for name, tokens in zip(names, tokens_VHWC, strict=True)}
    facts: dict[str, Json] = {
        "encoder": encoder.id,
        "encoder_licence": encoder.licence,
        "channels": encoder.channels,
        "grid": list(tokens_VHWC.shape[1:3]),
        "prefix_tokens_dropped": encoder.num_prefix_tokens,
        "views": names,
    }
    rendered, scale = _rendered_depths(item, block, names)
    maps = {} if depth is None else _depth_maps(depth, dict(zip(names, rgba_VSS4, strict=True)), rendered)
    facts |= {"depth": None, "depth_licence": None, "depth_scale": scale}
    if depth is not None and maps:
        facts |= {"depth": depth.id, "depth_licence": depth.licence}
    return Output({GRIDS: save(arrays | maps)}, facts=facts)


def _depth_maps(
    depth: Depth, rgba_by_view: Mapping[str, npt.NDArray[np.uint8]], rendered: Mapping[str, RenderedDepth]
) -> dict[str, Any]:
    """`depth.VIEW` of the views that can have one."""
    found = {name: depth.estimate(rgba_SS4, rendered.get(name)) for name, rgba_SS4 in rgba_by_view.items()}
    return {f"depth.{name}": values for name, values in found.items() if values is not None}


def _rendered_depths(
    item: Item, block: FeatureParams, names: Sequence[str]
) -> tuple[dict[str, RenderedDepth], float | None]:
    """Rendered depth by view, and what its unit is worth; nothing where the plug-in does not use it."""
    if not _uses_rendered(block) or not _has_depth(item.records, names):
        return {}, None
    squares = json.loads(item.read("matte", "crops.json"))
    scale = float(json.loads(item.read("views", "cameras.json"))["depth_scale"])
    depths = {}
    for name in names:
        depths[name] = RenderedDepth(_decode_depth(item.read("views", f"depth.{name}.png")), Square(*squares[name]))
    return depths, scale


def _present(records: Mapping[str, Record], declared: Iterable[str]) -> list[str]:
    return [name for name in declared if f"view.{name}.png" in records["matte"].files]


def _has_depth(records: Mapping[str, Record], names: Iterable[str]) -> bool:
    return "views" in records and all(f"depth.{name}.png" in records["views"].files for name in names)


def _uses_rendered(block: FeatureParams) -> bool:
    return block.depth is not None and bool(plugins.load("depths", block.depth).USES_RENDERED)


def _decode_depth(data: bytes) -> npt.NDArray[np.uint16]:
    """(H, W) of a depth PNG."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image).astype(np.uint16)

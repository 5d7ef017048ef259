"""One item's figures and its picture: the teacher's mesh beside the views that it was made from, and the truth."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.cameras import NAMED_AZIMUTHS_DEG, Camera, orbit_camera
from models.errors import BadInput
from models.geometry import ByteArray, Mesh, face_areas, load_scene, weld
from models.metrics import Protocol, Surface
from models.metrics.images import brightness, masks, on_ground, psnr_db
from models.metrics.points import match
from models.metrics.silhouettes import overlaps
from models.rendering import render
from models.topology import components, is_watertight
from models.views import decode_rgba
from tasks.gate import CAMERAS, MESH, VIEW, compared_views, has_cameras, has_truth
from tasks.gate.verdict import GateParams
from tasks.stage import Item, Json

TILE_PX = 128
NUM_COLOURS = 96
"""Of the picture: 15 KB in place of 80."""
DARK = 1 / 255
"""Inputs darker than this have no brightness to compare with."""
WITHOUT_CAMERAS = {"elevation_deg": 12.0, "distance": 2.7, "fov_deg": 40.0}
"""From where a mesh is shown, and not measured, below views of unknown cameras."""


@dataclass(frozen=True)
class Measured:
    """quality and facts for the record; picture: PNG bytes."""

    quality: dict[str, Json]
    facts: dict[str, Json]
    picture: bytes


@dataclass(frozen=True)
class _Seen:
    """The compared views. rgba_VSS4: square. cameras: None where they are unknown."""

    names: tuple[str, ...]
    rgba_VSS4: ByteArray
    cameras: tuple[Camera, ...] | None


def measure(item: Item, params: GateParams) -> Measured:
    """Raises BadInput for files that are no mesh or image, Unavailable without GL."""
    glb = item.read("teach", MESH)
    mesh = Mesh.from_glb(glb)
    seen = _read_views(item, params)
    rendered_VSS4 = _render(glb, seen, params)
    coloured = has_colours(glb)
    cameras_known = seen is not None and seen.cameras is not None
    quality = _view_figures(rendered_VSS4, seen, coloured) | _mesh_figures(mesh)
    facts: dict[str, Json] = {
        "views": list(seen.names) if seen else [],
        "cameras": cameras_known,
        "colours": coloured,
        "truth": has_truth(item.records),
    }
    quality["chamfer"] = None
    if facts["truth"]:
        chamfer, floor = _chamfer(mesh, Mesh.from_glb(item.read("ingest", MESH)), params.num_points)
        quality["chamfer"] = chamfer
        facts |= {"chamfer_points": params.num_points, "chamfer_floor": floor}
    rows = [seen.rgba_VSS4, rendered_VSS4] if seen else [rendered_VSS4]
    return Measured(quality, facts, picture(rows))


def has_colours(glb: bytes) -> bool:
    """Whether the mesh brings colours or a texture; without, a render's colours are the renderer's."""
    return any(_is_coloured(geometry.visual) for geometry in load_scene(glb, "glb").geometry.values())


def picture(rows: Sequence[ByteArray]) -> bytes:
    """PNG of rows of V square views, on the grey on which they are compared, at most TILE_PX a view."""
    from PIL import Image

    drawn = []
    for rgba_VSS4 in rows:
        tiles = []
        for image_SS3 in on_ground(rgba_VSS4):
            tile = Image.fromarray(np.rint(image_SS3 * 255).astype(np.uint8))
            if tile.width > TILE_PX:
                tile = tile.resize((TILE_PX, TILE_PX), Image.Resampling.BOX)
            tiles.append(np.asarray(tile))
        drawn.append(np.concatenate(tiles, axis=1))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(drawn)).quantize(NUM_COLOURS).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _read_views(item: Item, params: GateParams) -> _Seen | None:
    """None for an item whose views are not here. Raises BadInput where they differ in size."""
    names = tuple(compared_views(item.records, params))
    if not names:
        return None
    images = [decode_rgba(item.read("matte", f"{VIEW}{name}.png")) for name in names]
    if len({image.shape for image in images}) > 1 or images[0].shape[0] != images[0].shape[1]:
        raise BadInput("its matted views are not squares of one size")
    cameras = None
    if has_cameras(item.records):
        layout = json.loads(item.read("matte", CAMERAS))["views"]
        cameras = tuple(Camera.from_json(layout[name]) for name in names)
    return _Seen(names, np.stack(images), cameras)


def _render(glb: bytes, seen: _Seen | None, params: GateParams) -> ByteArray:
    """From the views' cameras; from our own, for the picture alone, where those are unknown."""
    if seen and seen.cameras:
        return render(glb, seen.cameras, seen.rgba_VSS4.shape[1], platform=params.platform).rgba_VHW4
    size_px = seen.rgba_VSS4.shape[1] if seen else TILE_PX
    names = seen.names if seen else tuple(NAMED_AZIMUTHS_DEG)
    azimuths_deg = [NAMED_AZIMUTHS_DEG.get(name, 0.0) for name in names]
    cameras = [orbit_camera(azimuth_deg, **WITHOUT_CAMERAS, size_px=size_px) for azimuth_deg in azimuths_deg]
    return render(glb, cameras, size_px, platform=params.platform).rgba_VHW4


def _view_figures(rendered_VSS4: ByteArray, seen: _Seen | None, coloured: bool) -> dict[str, Json]:
    figures: dict[str, Json] = {"silhouette_iou": None, "psnr_db": None, "brightness_ratio": None}
    if seen is None or seen.cameras is None:
        return figures
    figures["silhouette_iou"] = round(float(overlaps(masks(rendered_VSS4), masks(seen.rgba_VSS4)).mean()), 6)
    if coloured:
        figures["psnr_db"] = _rounded(psnr_db(rendered_VSS4, seen.rgba_VSS4))
        figures["brightness_ratio"] = _rounded(_brightness_ratio(rendered_VSS4, seen.rgba_VSS4))
    return figures


def _brightness_ratio(rendered_VSS4: ByteArray, seen_VSS4: ByteArray) -> float | None:
    """0 for a mesh that is not in the picture; None where the inputs are black or empty."""
    inputs = brightness(seen_VSS4)
    if inputs is None or inputs < DARK:
        return None
    return (brightness(rendered_VSS4) or 0.0) / inputs


def _mesh_figures(mesh: Mesh) -> dict[str, Json]:
    """Pieces are counted, and closedness may also be found, with vertices at one place joined: seams split them."""
    joined = weld(mesh)
    return {
        "area": round(float(face_areas(mesh).sum()), 6),
        "components": len(np.unique(components(joined)[joined.faces_F3[:, 0]])),
        "watertight": is_watertight(mesh) or is_watertight(joined),
    }


def _chamfer(mesh: Mesh, truth: Mesh, num_points: int) -> tuple[float, float]:
    """Of the mesh to the truth, and of the truth to itself, sampled twice."""
    protocol = Protocol(num_points=num_points)
    target = Surface(truth, protocol)
    distances = [
        match(Surface(candidate, protocol, seed=protocol.seed + 1).tree, target.tree).chamfer
        for candidate in (mesh, truth)
    ]
    return round(distances[0], 6), round(distances[1], 6)


def _is_coloured(visual: Any) -> bool:
    if visual.kind != "texture":
        return visual.kind in ("vertex", "face")
    material = visual.material.to_pbr() if hasattr(visual.material, "to_pbr") else visual.material
    return material.baseColorTexture is not None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)

"""One item's figures and its picture: the teacher's cast beside the views that it was made from, and the truth."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.cameras import NAMED_AZIMUTHS_DEG, Camera, orbit_camera
from models.casts import MESH, stored_kinds
from models.errors import BadInput
from models.geometry import ByteArray, Mesh, face_areas, weld
from models.metrics import Protocol, Surface
from models.metrics.flips import FLIPS, cropped_anew, find_alike
from models.metrics.images import brightness, masks, on_ground, psnr_db
from models.metrics.points import match
from models.metrics.silhouettes import longest_side_ratio, overlaps
from models.metrics.solids import area_to_hull, outward_share
from models.metrics.viewpoints import fits
from models.topology import components, is_watertight
from models.views import decode_rgba
from tasks.engine.stage import Item, Json
from tasks.stages.gate import CAMERAS, FIGURES, TRUTH, VIEW, compared_views, has_cameras, has_truth
from tasks.stages.gate.judged import Draw, Judged, find_judged, seen_through
from tasks.stages.gate.verdict import GateParams

TILE_PX = 128
NUM_COLOURS = 96
"""Of the picture: 15 KB instead of 80."""
SEED = 0
"""Of the samples of surfaces; the truth's are taken with it, all others with the next."""
MOST_FLIPPED = 2
"""Views that a flipped mesh is compared with: two at right angles tell all flips apart."""
DARK = 1 / 255
"""Inputs darker than this have no brightness to compare with."""
LENSES = ((2.7, 40.0), (5.0, 21.0))
"""(distance, field of view in degrees) of the cameras that are tried where those of the views are unknown."""
ELEVATIONS_DEG, STEP_DEG, NEAR_DEG = (-10.0, 10.0, 30.0, 50.0), 15.0, (-10.0, -5.0, 0.0, 5.0, 10.0)
"""First all round the object at these elevations, then by these angles about the best of them."""
SEARCH_PX = 96
NUM_MEASURED = 4
"""The search takes a coarsened mesh; so many of its best places are measured with the mesh itself. With 140,000
triangles that takes 4 s of CPU, not 11; the overlap found is at most .006 lower."""
ALIKE = 0.03
"""What looks the same from two sides, give or take so much overlap, is looked at from the side that its name says."""


class Viewpoint(NamedTuple):
    """Of a camera; see `orbit_camera`."""

    azimuth_deg: float
    elevation_deg: float
    distance: float
    fov_deg: float

    def turned(self, azimuth_deg: float, elevation_deg: float = 0.0) -> Viewpoint:
        azimuth = (self.azimuth_deg + azimuth_deg) % 360
        return self._replace(azimuth_deg=azimuth, elevation_deg=self.elevation_deg + elevation_deg)


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

    @property
    def size_px(self) -> int:
        return int(self.rgba_VSS4.shape[1])


def measure(item: Item, params: GateParams) -> Measured:
    """Raises BadInput for files that are no cast or image, EmptyOutput for a cast that cannot be drawn from where the
    views were taken, Unavailable without GL."""
    seen = _read_views(item, params)
    size_px = seen.size_px if seen else TILE_PX
    around = tuple(orbit_camera(turn, 10.0, *LENSES[0], size_px) for turn in NAMED_AZIMUTHS_DEG.values())
    judged = find_judged(item, (seen and seen.cameras) or around, size_px, params.platform)
    facts: dict[str, Json] = {
        "views": list(seen.names) if seen else [],
        "cameras": seen is not None and seen.cameras is not None,
        "colours": judged.coloured,
        "truth": has_truth(item.records),
    }
    if judged.kind != MESH:
        facts |= {"judged": judged.kind, "kinds": list(stored_kinds(item.names("teach")))}
    quality: dict[str, Json] = dict.fromkeys((*FIGURES, "watertight"))
    if judged.surface is not None:
        quality |= _mesh_figures(judged.surface)
    rows = [seen.rgba_VSS4] if seen else []
    if judged.kind is None:
        rows = rows or [np.zeros((1, TILE_PX, TILE_PX, 4), np.uint8)]
    elif seen is None:
        rows.append(judged.draw(around, TILE_PX))
    elif seen.cameras is None:
        places, quality["best_view_iou"] = find_viewpoint(judged, seen.names, masks(seen.rgba_VSS4))
        facts["viewpoint"] = places[0]._asdict()
        rows.append(judged.draw(tuple(orbit_camera(*place, seen.size_px) for place in places), seen.size_px))
    else:
        drawn, flipped = _render_all_ways(judged, seen.cameras, seen.size_px)
        quality |= _view_figures(drawn, flipped, seen.rgba_VSS4, judged.coloured)
        rows.append(drawn)
    if facts["truth"] and judged.surface is not None:
        truth = Mesh.from_glb(item.read("ingest", TRUTH))
        against_truth, floor = _truth_figures(judged.surface, truth, params.num_points)
        quality |= against_truth
        facts |= {"chamfer_points": params.num_points, "chamfer_floor": round(floor, 6)}
    return Measured({name: _rounded(value) for name, value in quality.items()}, facts, picture(rows))


def find_viewpoint(
    judged: Judged, names: Sequence[str], seen_VSS: npt.NDArray[np.bool_]
) -> tuple[list[Viewpoint], float]:
    """From where the cast's silhouettes fit those of the views best, and their mean intersection over union there.

    Views named front, left, ... were taken at right angles; where the object's own front is, is not known.
    """
    front = NAMED_AZIMUTHS_DEG.get(names[0], 0.0)
    turns = [NAMED_AZIMUTHS_DEG.get(name, 0.0) - front for name in names]

    def try_all(look: Draw, viewpoints: Iterable[Viewpoint]) -> list[tuple[float, list[Viewpoint]]]:
        candidates = [[viewpoint.turned(turn) for turn in turns] for viewpoint in viewpoints]
        order = {viewpoint: index for index, viewpoint in enumerate(dict.fromkeys(chain.from_iterable(candidates)))}
        cameras = [orbit_camera(*viewpoint, SEARCH_PX) for viewpoint in order]
        drawn_NSS = masks(seen_through(look, cameras, SEARCH_PX))
        shown_CV = np.array([[order[viewpoint] for viewpoint in candidate] for candidate in candidates])
        return list(zip(fits(seen_VSS, drawn_NSS, shown_CV).tolist(), candidates, strict=True))

    outline = judged.outline()
    around = np.arange(0, 360, STEP_DEG).tolist()
    coarse = try_all(outline, (Viewpoint(turn, rise, *LENSES[0]) for rise in ELEVATIONS_DEG for turn in around))
    highest = max(iou for iou, _ in coarse)
    close = [viewpoints for iou, viewpoints in coarse if iou >= highest - ALIKE]
    start = min(close, key=lambda viewpoints: abs((viewpoints[0].azimuth_deg - front + 180) % 360 - 180))[0]
    near = [start.turned(turn, rise) for rise in NEAR_DEG for turn in NEAR_DEG]
    lenses = [viewpoint._replace(distance=far, fov_deg=fov) for far, fov in LENSES for viewpoint in near]
    best = sorted(try_all(outline, lenses), reverse=True)[:NUM_MEASURED]
    iou, viewpoints = max(try_all(judged.look, [viewpoints[0] for _, viewpoints in best]))
    return viewpoints, iou


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


def _render_all_ways(judged: Judged, cameras: Sequence[Camera], size_px: int) -> tuple[ByteArray, list[ByteArray]]:
    """The cast as the V cameras see it, and as the first of them would see it flipped in each way; in one rendering.

    What can be drawn from the cameras alone is not flipped.
    """
    ways = [[flip.camera(camera, size_px) for camera in cameras[:MOST_FLIPPED]] for flip in FLIPS]
    drawn = list(cameras)
    for camera in chain.from_iterable(ways):
        if find_alike(camera, drawn) is None:
            drawn.append(camera)
    rendered_NSS4 = judged.look(drawn, size_px)
    if rendered_NSS4 is None:
        return judged.draw(cameras, size_px), []

    def seen_by(camera: Camera) -> ByteArray:
        index = find_alike(camera, drawn)
        assert index is not None, "it was added"
        return cropped_anew(rendered_NSS4[index], drawn[index], camera)

    flipped = [flip.images(np.stack([*map(seen_by, way)])) for flip, way in zip(FLIPS, ways, strict=True)]
    return rendered_NSS4[: len(cameras)], flipped


def _view_figures(
    drawn_VSS4: ByteArray, flipped: Sequence[ByteArray], seen_VSS4: ByteArray, coloured: bool
) -> dict[str, Json]:
    few = slice(MOST_FLIPPED)
    figures: dict[str, Json] = {
        "silhouette_iou": _mean_overlap(drawn_VSS4, seen_VSS4),
        "side_ratio": longest_side_ratio(masks(drawn_VSS4), masks(seen_VSS4)),
        "flipped_iou_gain": _gain(_mean_overlap, drawn_VSS4[few], flipped, seen_VSS4[few]),
    }
    if coloured:
        figures["psnr_db"] = psnr_db(drawn_VSS4, seen_VSS4)
        figures["flipped_psnr_gain_db"] = _gain(psnr_db, drawn_VSS4[few], flipped, seen_VSS4[few])
        figures["brightness_ratio"] = _brightness_ratio(drawn_VSS4, seen_VSS4)
    return figures


def _gain(
    likeness: Callable[[ByteArray, ByteArray], float | None],
    drawn_VSS4: ByteArray,
    flipped: Sequence[ByteArray],
    seen_VSS4: ByteArray,
) -> float | None:
    """How much more like the views the best flipped mesh is; below 0 where the mesh is best as it is."""
    as_it_is = likeness(drawn_VSS4, seen_VSS4)
    others = [value for images in flipped if (value := likeness(images, seen_VSS4)) is not None]
    return max(others) - as_it_is if others and as_it_is is not None else None


def _mean_overlap(drawn_VSS4: ByteArray, seen_VSS4: ByteArray) -> float:
    return float(overlaps(masks(drawn_VSS4), masks(seen_VSS4)).mean())


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
        "area": float(face_areas(mesh).sum()),
        "area_to_hull": area_to_hull(mesh),
        "outward_share": outward_share(mesh, SEED),
        "components": len(np.unique(components(joined)[joined.faces_F3[:, 0]])),
        "watertight": is_watertight(mesh) or is_watertight(joined),
    }


def _truth_figures(mesh: Mesh, truth: Mesh, num_points: int) -> tuple[dict[str, Json], float]:
    """Of the mesh to the truth, and the Chamfer distance of the truth to itself, sampled twice."""
    protocol = Protocol(num_points=num_points, seed=SEED)
    target = Surface(truth, protocol)
    taught, again = (Surface(candidate, protocol, seed=SEED + 1) for candidate in (mesh, truth))
    matches = match(taught.tree, target.tree)
    consistency = matches.normal_consistency(taught.normals_N3, target.normals_N3)
    figures = {"chamfer": matches.chamfer, "normal_consistency": consistency}
    return figures, match(again.tree, target.tree).chamfer


def _rounded(value: Json) -> Json:
    return round(value, 6) if isinstance(value, float) else value

"""Where the views stand: known cameras, else those that their names stand for, fitted to the silhouettes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.cameras import NAMED_AZIMUTHS_DEG, Camera, orbit_camera
from models.geometry import ByteArray, FloatArray

ELEVATION_DEG, DISTANCE, FOV_DEG = 12.0, 2.7, 40.0
"""Of the named views: the defaults of the stage `views`, about how one takes a photo of a thing on a table."""
OPAQUE = 128
"""Alpha from which a pixel counts as object."""
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


def projection(camera: Camera, size_px: int) -> FloatArray:
    """(3, 4): world to (x depth, y depth, depth), with x and y from -1 to 1 over the square image."""
    to_unit_33 = np.array([[2 / size_px, 0, -1], [0, 2 / size_px, -1], [0, 0, 1]])
    matrix: FloatArray = (to_unit_33 @ camera.intrinsics_33 @ camera.world_to_camera_44[:3]).astype(np.float32)
    return matrix


def named_cameras(names: Sequence[str], alpha_VSS: ByteArray) -> list[Camera | None]:
    """Cameras of named views whose real ones are unknown; None for a name without a side and an empty silhouette.

    They look from where the names say. How large the object appears is settled by its silhouettes together: the box
    that has their proportions, with its longest side 1, is made to fill them.
    """
    boxes = [
        _box(alpha_SS) if name in NAMED_AZIMUTHS_DEG else None for name, alpha_SS in zip(names, alpha_VSS, strict=True)
    ]
    extents_3 = _extents(names, boxes)
    size_px = alpha_VSS.shape[-1]
    return [
        None if box is None else _fitted(NAMED_AZIMUTHS_DEG[name], box, extents_3, size_px)
        for name, box in zip(names, boxes, strict=True)
    ]


Box = tuple[float, float, float, float]
"""left, top, right, bottom in pixels."""


def _box(alpha_SS: ByteArray) -> Box | None:
    rows, columns = (np.flatnonzero((alpha_SS >= OPAQUE).any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _extents(names: Sequence[str], boxes: Sequence[Box | None]) -> npt.NDArray[np.float64]:
    """Sides (x, y, z) of the object's box. A side that no view shows is taken as long as the shorter of the others.

    From the front a box of x by y by z shows x by y cos(e) + z sin(e) at the elevation e; the height is common to all.
    """
    slopes: dict[bool, list[float]] = {True: [], False: []}
    for name, box in zip(names, boxes, strict=True):
        if box is not None:
            slopes[NAMED_AZIMUTHS_DEG[name] % 180 == 0].append((box[2] - box[0]) / (box[3] - box[1]))
    cos, sin = np.cos(np.radians(ELEVATION_DEG)), np.sin(np.radians(ELEVATION_DEG))
    front, side = (float(np.median(slopes[key])) if slopes[key] else None for key in (True, False))
    if front is not None and side is not None:
        # x = front (cos + z sin), z = side (cos + x sin), where y is 1.
        x = front * cos * (1 + side * sin) / max(1 - front * side * sin**2, 0.1)
        z = side * (cos + x * sin)
    else:
        shown = front if front is not None else side if side is not None else 1.0
        # shown = (cos + depth sin) x ratio, with the unseen depth the shorter of both.
        seen = shown * cos / max(1 - shown * sin, 0.1) if shown < 1 else shown * (cos + sin)
        x, z = (seen, min(seen, 1.0)) if front is not None else (min(seen, 1.0), seen)
    extents_3 = np.array([x, 1.0, z])
    scaled: npt.NDArray[np.float64] = extents_3 / extents_3.max()
    return scaled


def _fitted(azimuth_deg: float, box: Box, extents_3: npt.NDArray[np.float64], size_px: int) -> Camera:
    """The named camera, its image scaled and moved so that the object's box fills that of the silhouette."""
    camera = orbit_camera(azimuth_deg, ELEVATION_DEG, DISTANCE, FOV_DEG, size_px)
    pixels_N2, _ = camera.project(_CORNERS * extents_3)
    low, high = pixels_N2.min(axis=0), pixels_N2.max(axis=0)
    seen_2 = np.array([box[2] - box[0], box[3] - box[1]])
    scale = float(np.exp(np.log(seen_2 / (high - low)).mean()))
    left, top = (low + high) / 2 - (np.array([box[0] + box[2], box[1] + box[3]]) / 2) / scale
    return camera.cropped(left, top, scale)

"""Cameras for photos that are named front, left, back and right, where nobody knows the real ones.

    cameras = nominal_cameras(("front", "left"), alpha_VHW, carve)
    cameras.views, cameras.elevation_deg, cameras.agreement

They stand where the names say, all at one elevation and with one lens. Each photo was cropped around the object by
itself, so that its scale is unknown: the widths and heights of the silhouettes give the object's proportions, and these
the scale of each photo. Of a few elevations the one is taken at which a shape carved from the silhouettes fills them
best (silhouette coherence, Hernandez et al. 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.cameras import NAMED_AZIMUTHS_DEG, Camera, orbit_camera
from models.errors import BadInput, EmptyOutput
from models.geometry import ByteArray, Mesh

DISTANCE, FOV_DEG = 2.7, 40.0
"""As the stage views renders. A longer lens fits nearly as well: docs/experiments/photos.md."""
ELEVATIONS_DEG, USUAL_DEG = (0.0, 6.0, 12.0, 18.0, 25.0, 35.0), 12.0
"""What is tried, and from where one mostly photographs."""
ALIKE = 0.005
"""Of elevations whose agreements differ by less, the most usual one is taken: two views hardly tell them apart."""
COMPARED_PX = 64
"""Side of the silhouettes that are compared."""
LONGEST = 0.9
"""The object's longest side: a shape that turns out longer than the ellipsoid still lies in the canonical box."""
FACES, SIDES = ("front", "back"), ("left", "right")
OPAQUE = 128

Extents = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NominalCameras:
    """views: one camera a view. agreement: mean intersection over union of the silhouettes with the carved shape's."""

    views: tuple[Camera, ...]
    elevation_deg: float
    agreement: float


def two_sides(names: Collection[str]) -> bool:
    """Whether the views look from two directions at right angles: one alone leaves the object's depth open."""
    return any(name in names for name in FACES) and any(name in names for name in SIDES)


def nominal_cameras(
    names: Sequence[str], alpha_VHW: ByteArray, carve: Callable[[Sequence[Camera]], Mesh]
) -> NominalCameras:
    """The cameras at which the silhouettes agree best. carve: a coarse shape of them, seen by such cameras.

    names: keys of NAMED_AZIMUTHS_DEG, of two sides. Raises BadInput naming a view that shows no object, EmptyOutput
    where the silhouettes fit no common shape.
    """
    boxes_V4 = np.stack([_box(name, alpha_HW) for name, alpha_HW in zip(names, alpha_VHW, strict=True)])
    tried = []
    for elevation_deg in ELEVATIONS_DEG:
        try:
            cameras = _cameras_at(elevation_deg, names, boxes_V4, alpha_VHW.shape[1])
            tried.append(NominalCameras(cameras, elevation_deg, _agreement(carve(cameras), alpha_VHW, cameras)))
        except EmptyOutput:
            continue
    if not tried:
        raise EmptyOutput("the photos show no common shape from the sides that their names say")
    best = max(found.agreement for found in tried)
    alike = [found for found in tried if found.agreement >= best - ALIKE]
    return min(alike, key=lambda found: abs(found.elevation_deg - USUAL_DEG))


def _cameras_at(
    elevation_deg: float, names: Sequence[str], boxes_V4: npt.NDArray[np.float64], size_px: int
) -> tuple[Camera, ...]:
    """Cameras to which an ellipsoid of the object's proportions fills the boxes of the silhouettes."""
    points_N3 = _sphere() * proportions(names, boxes_V4, elevation_deg) * (LONGEST / 2)
    cameras = []
    for name, (left, right, top, bottom) in zip(names, boxes_V4, strict=True):
        camera = orbit_camera(NAMED_AZIMUTHS_DEG[name], elevation_deg, DISTANCE, FOV_DEG, size_px)
        pixels_N2, _ = camera.project(points_N3)
        low_2, high_2 = pixels_N2.min(axis=0), pixels_N2.max(axis=0)
        scale = np.sqrt((right - left) * (bottom - top) / np.prod(high_2 - low_2))
        start_x, start_y = (low_2 + high_2) / 2 - np.array([left + right, top + bottom]) / 2 / scale
        cameras.append(camera.cropped(start_x, start_y, scale))
    return tuple(cameras)


def proportions(names: Sequence[str], boxes_V4: npt.NDArray[np.float64], elevation_deg: float) -> Extents:
    """Width, height and depth (3,) of the object, the longest 1, by its boxes in the views.

    From above an object looks higher by its depth: sqrt((height cos)^2 + (depth sin)^2), were it an ellipsoid. Raises
    EmptyOutput where it is too flat to look so high from there.
    """
    aspects_V = (boxes_V4[:, 1] - boxes_V4[:, 0]) / (boxes_V4[:, 3] - boxes_V4[:, 2])
    from_face_V = np.array([name in FACES for name in names])
    face_sq, side_sq = (
        float(np.exp(2 * np.log(aspects_V[chosen_V]).mean())) for chosen_V in (from_face_V, ~from_face_V)
    )
    cosine_sq, sine_sq = np.cos(np.radians(elevation_deg)) ** 2, np.sin(np.radians(elevation_deg)) ** 2
    # width^2 = face^2 (cos^2 + depth^2 sin^2), depth^2 = side^2 (cos^2 + width^2 sin^2), for a height of 1
    remainder = 1 - face_sq * side_sq * sine_sq**2
    if remainder <= 0:
        raise EmptyOutput(f"no object looks as high as this one from {elevation_deg:g} degrees above")
    width_sq = face_sq * cosine_sq * (1 + side_sq * sine_sq) / remainder
    extents_3 = np.sqrt([width_sq, 1.0, side_sq * (cosine_sq + width_sq * sine_sq)])
    longest_1: Extents = extents_3 / extents_3.max()
    return longest_1


def _agreement(mesh: Mesh, alpha_VHW: ByteArray, cameras: Sequence[Camera]) -> float:
    from models.metrics.silhouettes import silhouette_iou

    step = max(1, alpha_VHW.shape[1] // COMPARED_PX)
    masks_VSS = alpha_VHW[:, step // 2 :: step, step // 2 :: step] >= OPAQUE
    return silhouette_iou(mesh, masks_VSS, tuple(camera.cropped(0, 0, 1 / step) for camera in cameras))


def _box(name: str, alpha_HW: ByteArray) -> npt.NDArray[np.float64]:
    """Left, right, top, bottom (4,) of the silhouette, in pixels."""
    inside_HW = alpha_HW >= OPAQUE
    if not inside_HW.any():
        raise BadInput(f"view {name!r} shows no object: its silhouette is empty")
    rows, columns = np.flatnonzero(inside_HW.any(axis=1)), np.flatnonzero(inside_HW.any(axis=0))
    return np.array([columns[0], columns[-1] + 1, rows[0], rows[-1] + 1], np.float64)


def _sphere() -> npt.NDArray[np.float64]:
    """Points (N, 3) all over the unit sphere."""
    index = np.arange(1000) + 0.5
    height, turn = 1 - 2 * index / 1000, np.pi * (1 + np.sqrt(5)) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), height, radius * np.sin(turn)], axis=1)

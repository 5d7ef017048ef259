"""Silhouettes of a mesh without a renderer, and how well they cover those that were seen.

A *proxy* for items whose true surface is unknown: a mesh that fits the silhouettes may still be wrong inside them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from models.cameras import Camera
from models.geometry import Mesh

OVERSAMPLING = 5
"""PIL's polygons cover every pixel they touch; sampling the centres of a finer drawing takes that fat off. Odd, so that
a fine pixel lies at the centre."""


def silhouette(mesh: Mesh, camera: Camera, size_px: int) -> npt.NDArray[np.bool_]:
    """(size_px, size_px) mask of the mesh. Triangles that reach behind the camera are left out."""
    fine_px = size_px * OVERSAMPLING
    pixels_N2, depth_N = camera.cropped(0, 0, OVERSAMPLING).project(mesh.vertices_N3)
    visible_F = (depth_N[mesh.faces_F3] > 1e-6).all(axis=1)
    triangles_F6 = pixels_N2[mesh.faces_F3[visible_F]].reshape(-1, 6)
    image = Image.new("1", (fine_px, fine_px))
    draw = ImageDraw.Draw(image)
    for corners in triangles_F6.tolist():
        draw.polygon(corners, fill=1)
    return np.asarray(image)[OVERSAMPLING // 2 :: OVERSAMPLING, OVERSAMPLING // 2 :: OVERSAMPLING]


def silhouette_iou(mesh: Mesh, masks_VHW: npt.NDArray[np.bool_], cameras: tuple[Camera, ...]) -> float:
    """Mean over the views of intersection over union between the mesh's silhouette and the seen square mask."""
    drawn = [silhouette(mesh, camera, mask.shape[0]) for mask, camera in zip(masks_VHW, cameras, strict=True)]
    return float(overlaps(np.stack(drawn), masks_VHW).mean())


def longest_side_ratio(a_VHW: npt.NDArray[np.bool_], b_VHW: npt.NDArray[np.bool_]) -> float:
    """The largest factor between the sides of two masks' boxes, over the views and both sides; 1 where they agree.

    One pixel more is none: it may be the outline's rounding.
    """
    a_V2, b_V2 = _box_sides(a_VHW), _box_sides(b_VHW)
    longer_V2, shorter_V2 = np.maximum(a_V2, b_V2), np.minimum(a_V2, b_V2)
    return float(((longer_V2 - 1) / np.maximum(shorter_V2, 1)).max(initial=1))


def _box_sides(masks_VHW: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Height and width (V, 2) of what each mask holds."""
    sides = [[_span(mask_HW.any(axis=1)), _span(mask_HW.any(axis=0))] for mask_HW in masks_VHW]
    return np.array(sides, np.int64).reshape(-1, 2)


def _span(held_N: npt.NDArray[np.bool_]) -> int:
    (places,) = np.nonzero(held_N)
    return int(np.ptp(places)) + 1 if len(places) else 0


def overlaps(a_VHW: npt.NDArray[np.bool_], b_VHW: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Intersection over union (V,) of two masks of each view; 0 where both are empty."""
    shared_V, union_V = (a_VHW & b_VHW).sum(axis=(1, 2)), (a_VHW | b_VHW).sum(axis=(1, 2))
    ious_V: npt.NDArray[np.float64] = shared_V / np.maximum(union_V, 1)
    return ious_V

"""Silhouettes as signed distances: where an object ends in an image, finer than a pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.geometry import ByteArray, FloatArray

FAINT = 0.02
"""Coverage this close to none or all counts as such."""
EDGE_PX = 2
"""How far from the threshold's outline a partly covered pixel still tells where the edge runs."""


@dataclass(frozen=True)
class Outline:
    """distance_HW: signed, in pixels, of pixel centres to the silhouette's edge, positive inside. edge_2HW: row and
    column of the edge pixel that is nearest to each."""

    distance_HW: FloatArray
    edge_2HW: npt.NDArray[np.int32]


def silhouette_distance(alpha_HW: ByteArray, threshold: float) -> FloatArray | None:
    """The distances of an `Outline`; None where the silhouette is empty."""
    found = outline(alpha_HW, threshold)
    return None if found is None else found.distance_HW


def outline(alpha_HW: ByteArray, threshold: float) -> Outline | None:
    """The outline of what is covered to `threshold` (0 to 1) or more; None where nothing is.

    Edge pixels are partly covered, which tells where in the pixel the edge runs: distances are measured from there.
    Exact for edges along rows and columns, within a third of a pixel for others. Partial coverage farther inside counts
    as full: a matte may be unsure in the middle of an object.
    """
    from scipy import ndimage

    coverage_HW = alpha_HW.astype(np.float32) / 255
    inside_HW = coverage_HW >= threshold
    if not inside_HW.any():
        return None
    near_HW, beyond_HW = (ndimage.binary_dilation(side_HW, iterations=EDGE_PX) for side_HW in (inside_HW, ~inside_HW))
    partial_HW = (coverage_HW > FAINT) & (coverage_HW < 1 - FAINT) & near_HW & beyond_HW
    beside_empty_HW = _least_around(coverage_HW) <= FAINT
    edge_HW = partial_HW | ((coverage_HW >= 1 - FAINT) & beside_empty_HW)
    if not edge_HW.any():
        far = np.full(alpha_HW.shape, float(max(alpha_HW.shape)), np.float32)
        return Outline(far, np.indices(alpha_HW.shape, np.int32))
    distance_HW, edge_2HW = ndimage.distance_transform_edt(~edge_HW, return_indices=True)
    depth_in_pixel_HW = coverage_HW[edge_2HW[0], edge_2HW[1]] - threshold
    signed_HW: FloatArray = (np.where(inside_HW, distance_HW, -distance_HW) + depth_in_pixel_HW).astype(np.float32)
    return Outline(signed_HW, edge_2HW)


def _least_around(values_HW: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of each pixel and its four neighbours, the least."""
    least_HW = values_HW.copy()
    for axis in (0, 1):
        here, there = np.moveaxis(least_HW, axis, 0), np.moveaxis(values_HW, axis, 0)
        np.minimum(here[1:], there[:-1], out=here[1:])
        np.minimum(here[:-1], there[1:], out=here[:-1])
    return least_HW

"""Silhouettes as signed distances: where an object ends in an image, finer than a pixel."""

from __future__ import annotations

import numpy as np

from models.geometry import ByteArray, FloatArray

FAINT = 0.02
"""Coverage this close to none or all counts as such."""
EDGE_PX = 2
"""How far from the threshold's outline a partly covered pixel still tells where the edge runs."""
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def silhouette_distance(alpha_HW: ByteArray, threshold: float) -> FloatArray | None:
    """Signed distance (H, W) in pixels of pixel centres to the silhouette's edge, positive inside; None if it is empty.

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
    beside_empty_HW = ndimage.minimum_filter(coverage_HW, footprint=_CROSS, mode="nearest") <= FAINT
    edge_HW = partial_HW | ((coverage_HW >= 1 - FAINT) & beside_empty_HW)
    if not edge_HW.any():
        return np.full(alpha_HW.shape, float(max(alpha_HW.shape)), np.float32)
    distance_HW, (row_HW, column_HW) = ndimage.distance_transform_edt(~edge_HW, return_indices=True)
    depth_in_pixel_HW = coverage_HW[row_HW, column_HW] - threshold
    signed_HW: FloatArray = (np.where(inside_HW, distance_HW, -distance_HW) + depth_in_pixel_HW).astype(np.float32)
    return signed_HW

"""Two images of one object from one camera: how far apart their pixels are, and whether one is the darker.

Images are RGBA, uint8, straight alpha; values are sRGB-coded and in [0, 1] where figures speak of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.geometry import ByteArray, FloatArray

GROUND = 0.5
"""Grey behind both images: a black object's wrong outline shows as well as a white one's."""
MAX_PSNR_DB = 60.0
"""Of equal images; rounding to 8 bits alone costs more."""
SEEN = 128
"""Alpha from which a pixel counts as object."""
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Rec. 709 weights."""


def masks(rgba_VHW4: ByteArray) -> npt.NDArray[np.bool_]:
    """(V, H, W): where the object is."""
    mask_VHW: npt.NDArray[np.bool_] = rgba_VHW4[..., 3] >= SEEN
    return mask_VHW


def psnr_db(rendered_VHW4: ByteArray, seen_VHW4: ByteArray) -> float | None:
    """Peak signal-to-noise ratio over the pixels of either object, all views pooled, both on the same grey.

    At most MAX_PSNR_DB; None where neither shows an object.
    """
    object_VHW = masks(rendered_VHW4) | masks(seen_VHW4)
    if not object_VHW.any():
        return None
    difference_P3 = on_ground(rendered_VHW4)[object_VHW] - on_ground(seen_VHW4)[object_VHW]
    mean_square = float(np.square(difference_P3, dtype=np.float64).mean())
    return min(MAX_PSNR_DB, -10 * float(np.log10(max(mean_square, 1e-12))))


def brightness(rgba_VHW4: ByteArray) -> float | None:
    """Mean luma of the object's pixels, all views pooled, weighted by coverage; None where nothing is seen."""
    coverage_VHW = rgba_VHW4[..., 3].astype(np.float64)
    total = float(coverage_VHW.sum())
    if total == 0:
        return None
    luma_VHW = rgba_VHW4[..., :3].astype(np.float64) @ LUMA.astype(np.float64) / 255
    return float((luma_VHW * coverage_VHW).sum()) / total


def on_ground(rgba_VHW4: ByteArray) -> FloatArray:
    """The images on grey, in [0, 1]."""
    coverage = rgba_VHW4[..., 3:].astype(np.float32) / 255
    return np.asarray(rgba_VHW4[..., :3] / 255 * coverage + GROUND * (1 - coverage), np.float32)

"""Colours as they are seen (sRGB, 8 bits) and as light adds up (linear, 0 to 1): glTF's vertex colours are linear."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def srgb_from_linear(linear: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """sRGB bytes of linear values (..., 3 or 4); a fourth is alpha, which is linear in both. Cut to [0, 1]."""
    values = np.clip(np.asarray(linear, np.float64), 0, 1)
    encoded = np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
    encoded[..., 3:] = values[..., 3:]
    srgb: npt.NDArray[np.uint8] = np.rint(encoded * 255).astype(np.uint8)
    return srgb


def linear_from_srgb(srgb: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Linear values of sRGB in [0, 1] (..., 3 or 4); alpha stays."""
    values = np.asarray(srgb, np.float64)
    linear: npt.NDArray[np.float64] = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear[..., 3:] = values[..., 3:]
    return linear


def rgba_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """RGBA bytes (N, 4) of colours (N, 3 or 4): floats from 0 to 1, or integers that use the range of their type."""
    colours = np.asarray(values)
    if colours.dtype.kind == "f":
        colours = np.rint(np.clip(np.nan_to_num(colours), 0, 1) * 255)
    elif colours.dtype != np.uint8:
        colours = np.rint(colours * (255 / np.iinfo(colours.dtype).max)).clip(0, 255)
    rgba = np.full((len(colours), 4), 255, np.uint8)
    rgba[:, : colours.shape[1]] = colours
    return rgba

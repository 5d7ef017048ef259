"""The square cut around an object: the same for training data, for depth and for one photo handed to `generate`."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Square:
    """A square of source pixels. It may reach over the image's border; what lies outside is transparent."""

    left: int
    top: int
    side: int

    def to_json(self) -> list[int]:
        return [self.left, self.top, self.side]


def square_around(alpha_HW: ByteArray, *, padding: float, threshold: int) -> Square | None:
    """The square centred on the box of alpha >= threshold, or None where no pixel reaches it.

    Its side is the box's longer one, enlarged by `padding` of it at either end.
    """
    inside_HW = alpha_HW >= threshold
    rows, columns = np.flatnonzero(inside_HW.any(axis=1)), np.flatnonzero(inside_HW.any(axis=0))
    if len(rows) == 0:
        return None
    left, right, top, bottom = int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1
    side = ceil(max(right - left, bottom - top) * (1 + 2 * padding))
    return Square((left + right - side) // 2, (top + bottom - side) // 2, side)


def crop(rgba_HW4: ByteArray, square: Square, size_px: int) -> ByteArray:
    """The square as (size_px, size_px, 4), straight alpha in and out, resampled on premultiplied colour."""
    top, left, bottom, right = _overlap(rgba_HW4.shape, square)
    cut_SS4 = np.zeros((square.side, square.side, 4), np.uint8)
    cut_SS4[top - square.top : bottom - square.top, left - square.left : right - square.left] = rgba_HW4[
        top:bottom, left:right
    ]
    return resize(cut_SS4, size_px)


def resize(rgba_HW4: ByteArray, size_px: int) -> ByteArray:
    """The image as (size_px, size_px, 4), antialiased. Colour hidden under transparency cannot bleed in.

    Pillow premultiplies RGBA before it resamples and divides again after. Hamming is nearly as sharp as bicubic and,
    having no negative lobes, leaves no bright rims where clipped alpha and colour would disagree.
    """
    from PIL import Image

    if rgba_HW4.shape[:2] == (size_px, size_px):
        return rgba_HW4
    resized = Image.fromarray(rgba_HW4).resize((size_px, size_px), Image.Resampling.HAMMING)
    return np.asarray(resized)


def crop_nearest(values_HW: npt.NDArray[np.uint16], square: Square, size_px: int) -> npt.NDArray[np.uint16]:
    """The square as (size_px, size_px), each pixel the value at its centre: depths of two surfaces never mix.

    0 outside the image.
    """
    offsets = ((np.arange(size_px) + 0.5) * square.side / size_px).astype(np.int64)
    rows, columns = square.top + offsets, square.left + offsets
    height, width = values_HW.shape
    sampled = values_HW[np.ix_(rows.clip(0, height - 1), columns.clip(0, width - 1))]
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return np.where(inside, sampled, np.uint16(0))


def on_grey(rgba_BHW4: ByteArray, level: int) -> npt.NDArray[np.float32]:
    """The images composited on a grey of `level` (0 black to 255 white): (B, H, W, 3) in [0, 1]."""
    unit_BHW4: npt.NDArray[np.float32] = np.divide(rgba_BHW4, 255, dtype=np.float32)
    alpha = unit_BHW4[..., 3:]
    return unit_BHW4[..., :3] * alpha + np.float32(level / 255) * (1 - alpha)


def _overlap(shape: tuple[int, ...], square: Square) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the part of the square that lies on the image."""
    height, width = shape[:2]
    top, left = max(square.top, 0), max(square.left, 0)
    return top, left, min(square.top + square.side, height), min(square.left + square.side, width)

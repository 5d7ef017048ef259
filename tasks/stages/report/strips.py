"""Pictures inside the page: turntable strips and input views as WebP data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.geometry import ByteArray
from models.views import decode_rgba

QUALITY = 82
"""WebP's, lossy with a lossless alpha: a strip of 768 x 128 px takes about 10 KB."""
METHOD = 4
"""WebP's effort: the highest, 6, takes fifty times as long and saves 3 %."""
MARGIN_PX = 4


def turntable(glb: bytes, num_views: int, size_px: int) -> ByteArray:
    """A turn around the mesh: (num_views, size_px, size_px, 4). Raises BadInput, Unavailable without GL."""
    from models.rendering import turntable_strip

    strip = turntable_strip(glb, num_views, size_px)
    return np.ascontiguousarray(strip.reshape(size_px, num_views, size_px, 4).swapaxes(0, 1))


def fitted(turns: Sequence[ByteArray]) -> list[str]:
    """Turns as strips without the margins that all have in common: sizes compare, and no view is taller than wide."""
    if not turns:
        return []
    alpha_NHW = np.concatenate([turn_VHW4[..., 3] for turn_VHW4 in turns])
    height, width = (_reach(alpha_NHW.max(axis=axes) > 0) for axes in ((0, 2), (0, 1)))
    middle = alpha_NHW.shape[1] // 2
    rows, columns = (slice(middle - reach, middle + reach) for reach in (height, max(width, height)))
    return [data_uri(np.concatenate(list(turn_VHW4[:, rows, columns]), axis=1)) for turn_VHW4 in turns]


def _reach(used: npt.NDArray[np.bool_]) -> int:
    """How far from the centre anything is used, in pixels, and MARGIN_PX more."""
    middle = len(used) // 2
    places = np.flatnonzero(used)
    if len(places) == 0:
        return middle
    return min(middle, max(middle - int(places[0]), int(places[-1]) + 1 - middle) + MARGIN_PX)


def inputs(pngs: Sequence[bytes], size_px: int) -> str:
    """Square views side by side, each brought to size_px. Raises BadInput."""
    from PIL import Image

    if not pngs:
        raise BadInput("it has no views")
    squares = [Image.fromarray(decode_rgba(png)).convert("RGBa") for png in pngs]
    resized = [image.resize((size_px, size_px), Image.Resampling.LANCZOS).convert("RGBA") for image in squares]
    return data_uri(np.concatenate([np.asarray(image) for image in resized], axis=1))


def thumbnail(png: bytes, size_px: int) -> str:
    """A picture at most size_px long. Raises BadInput."""
    from PIL import Image

    image = Image.fromarray(decode_rgba(png)).convert("RGBa")
    image.thumbnail((size_px, size_px), Image.Resampling.LANCZOS)
    return data_uri(np.asarray(image.convert("RGBA")))


def data_uri(rgba_HW4: ByteArray) -> str:
    """`data:image/webp;base64,...`."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgba_HW4).save(buffer, format="WEBP", quality=QUALITY, method=METHOD)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

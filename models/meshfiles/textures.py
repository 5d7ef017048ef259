"""The image of a texture, kept as the bytes in which its file holds it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.stand_ins import stand_in
from models.views import in_8_bits

Wrap = Literal["repeat", "mirror", "clamp"]

KTX2 = b"\xabKTX 20\xbb"
"""How images begin that are made for graphics cards alone."""

GL_CODES: dict[Wrap, int] = {"repeat": 10497, "mirror": 33648, "clamp": 33071}
"""How OpenGL and glTF number the ways to go on."""

STORED_AS_IS = {"PNG": "image/png", "JPEG": "image/jpeg"}
"""Formats that a glTF without extensions may hold; others are stored as PNG."""


@dataclass(frozen=True, eq=False)
class Texture:
    """An image, and how it goes on beyond its borders along u and v."""

    encoded: bytes = field(repr=False)
    wrap: tuple[Wrap, Wrap] = ("repeat", "repeat")

    @cached_property
    def size_px(self) -> tuple[int, int]:
        """Width and height, without decoding. Raises BadInput for what is no image."""
        with _opened(self.encoded) as image:
            return int(image.width), int(image.height)

    def rgba(self) -> npt.NDArray[np.uint8]:
        """Its pixels (H, W, 4). Raises BadInput."""
        with _opened(self.encoded) as image:
            return np.asarray(in_8_bits(image).convert("RGBA"))

    def for_gltf(self) -> tuple[bytes, str]:
        """Bytes and type of an image that every glTF reader takes: the very bytes where they are PNG or JPEG."""

        with _opened(self.encoded) as image:
            if image.format in STORED_AS_IS:
                image.load()
                return self.encoded, STORED_AS_IS[image.format]
            buffer = io.BytesIO()
            in_8_bits(image).convert("RGBA").save(buffer, format="PNG")
            return buffer.getvalue(), STORED_AS_IS["PNG"]

    def sampled(self, uv_N2: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
        """Colours (N, 4) at texture coordinates (origin: upper left), of the nearest pixel."""
        pixels_HW4 = self.rgba()
        height, width = pixels_HW4.shape[:2]
        columns = _wrapped(uv_N2[:, 0] * width, width, self.wrap[0])
        rows = _wrapped(uv_N2[:, 1] * height, height, self.wrap[1])
        sampled: npt.NDArray[np.uint8] = pixels_HW4[rows, columns]
        return sampled


def png_of(pixels: Any) -> bytes:
    """PNG bytes of a Pillow image."""
    buffer = io.BytesIO()
    pixels.save(buffer, format="PNG")
    return buffer.getvalue()


def _wrapped(positions_px: npt.NDArray[Any], size_px: int, wrap: Wrap) -> npt.NDArray[np.int64]:
    pixels: npt.NDArray[np.int64] = np.floor(positions_px).astype(np.int64)
    if wrap == "clamp":
        pixels = pixels.clip(0, size_px - 1)
    elif wrap == "mirror":
        pixels = pixels % (2 * size_px)
        pixels = np.minimum(pixels, 2 * size_px - 1 - pixels)
    else:
        pixels = pixels % size_px
    return pixels


@contextmanager
def _opened(encoded: bytes) -> Iterator[Any]:
    """The Pillow image; whatever it chokes on, also later, becomes BadInput."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(encoded)) as image:
            yield image
    except UnidentifiedImageError as error:  # its own message names an object in memory
        what = "a KTX2 image" if encoded.startswith(KTX2) else stand_in(encoded) or "of no known image format"
        raise BadInput(f"a texture is not readable: it is {what}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"a texture is not readable: {error}") from error

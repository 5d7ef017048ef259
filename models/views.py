"""Images of one object: what a teacher, a matte and an encoder are given."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.cameras import Camera
from models.errors import BadInput

MAX_IMAGE_PIXELS = 64_000_000


@dataclass(frozen=True)
class Views:
    """V views of one object.

    names: their names (front, left, back, right, ring_00...). rgba_VHW4: uint8, straight alpha.
    cameras: one for each view, or None where they are unknown (photos). All in the canonical frame.
    files: what a teacher that imports finished work is to read for this object.
    """

    names: tuple[str, ...]
    rgba_VHW4: npt.NDArray[np.uint8]
    cameras: tuple[Camera, ...] | None = None
    files: tuple[Path, ...] = ()

    def select(self, names: tuple[str, ...]) -> Views:
        """The views of these names, in this order; names that are absent are left out."""
        kept = [self.names.index(name) for name in names if name in self.names]
        cameras = None if self.cameras is None else tuple(self.cameras[index] for index in kept)
        return Views(tuple(self.names[index] for index in kept), self.rgba_VHW4[kept], cameras)


def encode_png(image: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    """PNG bytes of (H, W, 3|4) uint8 or (H, W) uint8/uint16."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def decode_rgba(data: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, 4) uint8 of any image file, turned upright by its EXIF orientation. Raises BadInput."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise BadInput(f"{image.width}x{image.height} px is over the limit of {MAX_IMAGE_PIXELS} pixels")
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGBA"))
    except BadInput:
        raise
    except UnidentifiedImageError as error:  # its own message names an object in memory
        raise BadInput("not a readable image: its bytes are of no known format") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"not a readable image: {error}") from error

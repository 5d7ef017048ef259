"""Images of one object: what a teacher, a matte and an encoder are given."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.cameras import NAMED_AZIMUTHS_DEG, Camera
from models.errors import BadInput
from models.stand_ins import stand_in

if TYPE_CHECKING:
    from models.needs import Given

MAX_IMAGE_PIXELS = 64_000_000
IMAGE_TYPES = ("png", "jpg", "jpeg", "jfif", "webp", "heic", "heif", "avif", "tif", "tiff", "bmp")
"""Suffixes of the images that `decode_rgba` reads."""


@dataclass(frozen=True)
class Views:
    """V views of one object.

    names: their names (front, left, back, right, ring_00...). rgba_VHW4: uint8, straight alpha.
    cameras: one for each view, or None where they are unknown (photos). All in the canonical frame.
    files: what a teacher that imports finished work is to read for this object. given: the object's things that a
    teacher wants beside its views.
    """

    names: tuple[str, ...]
    rgba_VHW4: npt.NDArray[np.uint8]
    cameras: tuple[Camera, ...] | None = None
    files: tuple[Path, ...] = ()
    given: Given | None = None

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

    if found := stand_in(data):
        raise BadInput(f"not a readable image: {found}")
    knows_heic = data[4:8] != b"ftyp" or _register_heif()
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise BadInput(f"{image.width}x{image.height} px is over the limit of {MAX_IMAGE_PIXELS} pixels")
            return np.asarray(in_8_bits(ImageOps.exif_transpose(image)).convert("RGBA"))
    except BadInput:
        raise
    except UnidentifiedImageError as error:  # its own message names an object in memory
        unknown = "its bytes are of no known format" if knows_heic else "HEIC asks for the package pillow-heif"
        raise BadInput(f"not a readable image: {unknown}") from error
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, Image.DecompressionBombError) as error:
        raise BadInput(f"not a readable image: {error}") from error


def split_view(stem: str) -> tuple[str, str | None]:
    """The name of an object and the view, of a photo's name without suffix.

    "mug_left" is ("mug", "left"), "left" is ("", "left"), "mug" is ("mug", None).
    """
    name, _, ending = stem.rpartition("_")
    view = ending.lower()
    return (name, view) if view in NAMED_AZIMUTHS_DEG else (stem, None)


@functools.cache
def _register_heif() -> bool:
    """Teach Pillow HEIC, pictures alone: thumbnails and depth maps are more code that meets foreign bytes.

    False where the package is absent, as it may be: docs/decisions/0011-heic.md.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


def in_8_bits(image: Any) -> Any:
    """Grey of 16 bits scaled to 8: Pillow's own conversion clips it to white. Wider values have no known range."""
    from PIL import Image

    if image.mode in ("I", "F"):
        raise BadInput(
            "grey of more than 16 bits, or signed, or float: its range is unknown; save it with 8 or 16 bits"
        )
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))

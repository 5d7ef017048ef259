import base64
import io
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from models.errors import BadInput
from models.views import decode_rgba, split_view
from tests.support import ROOT

CASES = ROOT.parent / "shared" / "cases"
TURNED_HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAcVtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAADRpbG9j"
    "AAAAAERAAAIAAQAAAAAB6QABAAAAAAAAAE0AAgAAAAACNgABAAAAAAAAACQAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAA"
    "ABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABBGlwcnAAAADjaXBjbwAAAHVodmNDAQNwAAAAAAAAAAAAHvAA/P34+AAADwNg"
    "AAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQB"
    "wXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAIAAAAAEAAAAQAAAAAf///+AAAAAC////0AAA"
    "AAIAAAAOcGl4aQAAAAABCAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEAAQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAHlt"
    "ZGF0AAAASSgBrxMhc5NA5TI2/4GT71z68mwqn4EQteFfWs16+eH3lVT3yWUNAujPvdzeDPAxhENk/CYGZQiV9OfpoNtabkUKBRCahPwYJ+4A"
    "AAAGRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA="
)
"""32 x 16 px, red above blue, to be turned 90 degrees clockwise: made with pillow-heif 1.4, x265 at quality 50."""


def encoded(pixels: npt.NDArray[Any], image_format: str, **save: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, **save)
    return buffer.getvalue()


def red_above_black(width: int = 60, height: int = 40) -> npt.NDArray[np.uint8]:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = [255, 0, 0]
    return pixels


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_scaled_and_not_clipped(image_format: str) -> None:
    grey_16 = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    rgba = decode_rgba(encoded(grey_16, image_format))
    assert np.array_equal(rgba[..., 0], np.rint(grey_16 / 257).astype(np.uint8))
    assert np.array_equal(rgba[..., 0], rgba[..., 2])
    assert (rgba[..., 3] == 255).all()


def test_big_endian_grey_of_16_bits_is_scaled_too() -> None:
    grey_16 = np.array([[0, 257, 32896, 65535]], ">u2")
    image = Image.frombytes("I;16B", (4, 1), grey_16.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    assert decode_rgba(buffer.getvalue())[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_grey_of_unknown_range_is_refused_by_name(dtype: type) -> None:
    with pytest.raises(BadInput, match="its range is unknown; save it with 8 or 16 bits"):
        decode_rgba(encoded(np.full((4, 4), 70_000, dtype), "TIFF"))


@pytest.mark.parametrize("image_format", ["JPEG", "AVIF", "TIFF", "WEBP"])
def test_photos_are_turned_upright_whatever_their_format(image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: shown 90 degrees clockwise
    upright = decode_rgba(encoded(red_above_black(), image_format, exif=exif, quality=95))
    assert upright.shape == (60, 40, 4)
    assert upright[30, 36, 0] > 200 > 50 > upright[30, 3, 0]


def test_heic_is_read_and_turned_once() -> None:
    upright = decode_rgba(TURNED_HEIC)
    assert upright.shape == (32, 16, 4)
    assert upright[16, 13, :3] == pytest.approx([255, 0, 0], abs=8)
    assert upright[16, 2, :3] == pytest.approx([0, 0, 255], abs=8)


def test_without_pillow_heif_a_heic_says_what_it_asks_for() -> None:
    """In an interpreter of its own: Pillow keeps what was registered with it."""
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from models.errors import BadInput; from models.views import decode_rgba\n"
        "try: decode_rgba(sys.stdin.buffer.read())\n"
        "except BadInput as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=TURNED_HEIC, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "not a readable image: HEIC asks for the package pillow-heif"


@pytest.mark.parametrize("cut", [12, 40, 300, 560])
def test_a_heic_cut_short_is_bad_input(cut: int) -> None:
    with pytest.raises(BadInput, match="not a readable image"):
        decode_rgba(TURNED_HEIC[:cut])


def test_an_avif_cut_short_is_bad_input() -> None:
    whole = encoded(red_above_black(), "AVIF")
    with pytest.raises(BadInput, match="not a readable image"):
        decode_rgba(whole[: len(whole) - 20])


def test_what_was_never_fetched_is_named() -> None:
    with pytest.raises(BadInput, match="Git LFS pointer, not the file: run `git lfs pull`"):
        decode_rgba(b"version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 123456\n")
    with pytest.raises(BadInput, match="a web page, not the file"):
        decode_rgba(b"<!DOCTYPE html><html></html>")


@pytest.mark.skipif(not CASES.is_dir(), reason="the optional cases are not there")
def test_the_grey_photos_of_8_and_16_bits_look_alike() -> None:
    folder = CASES / "16_grey16_png" / "inbox"
    of_8, of_16 = (decode_rgba((folder / name).read_bytes()) for name in ("grey8.png", "grey16.png"))
    assert np.abs(of_8.astype(int) - of_16.astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("mug_left", ("mug", "left")),
        ("my_mug_BACK", ("my_mug", "back")),
        ("Front", ("", "front")),
        ("mug", ("mug", None)),
        ("mug_top", ("mug_top", None)),
        ("upright", ("upright", None)),
    ],
)
def test_a_view_is_the_last_word_of_a_name(stem: str, expected: tuple[str, str | None]) -> None:
    assert split_view(stem) == expected

"""Wavefront material libraries (.mtl), and the names under which they and their textures may be found.

newmtl leather
Kd 0.8 0.8 0.8
map_Kd -s 2 2 1 "C:\\work\\My Boot.PNG"
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PureWindowsPath

from models.meshfiles.text import decoded

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_OPTION = re.compile(
    rf"(?P<vector>-[ost])(?P<values>(?:\s+{_NUMBER}(?=\s)){{1,3}})\s+"
    r"|(?:-mm\s+\S+\s+\S+|(?P<single>-(?:blendu|blendv|boost|bm|cc|clamp|imfchan|texres|type))\s+(?P<value>\S+))\s+",
    re.IGNORECASE,
)

COLOUR_MAP = "map_kd"
OTHER_MAPS = ("map_", "bump", "disp", "decal", "norm", "refl")
"""How statements begin that name pictures which are not drawn."""


@dataclass(frozen=True)
class TextureStatement:
    """What stands behind `map_Kd`. stated: all of it. name: without options and quotes. scale, offset: of u and v."""

    stated: str
    name: str
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    clamp: bool = False


@dataclass
class MtlMaterial:
    """One `newmtl`. diffuse: Kd."""

    name: str
    diffuse: tuple[float, float, float] | None = None
    texture: TextureStatement | None = None
    other_textures: list[TextureStatement] = field(default_factory=list)


def read_mtl(data: bytes) -> dict[str, MtlMaterial]:
    """Materials by name. Lines that are not understood are passed over. Opacity too: glass is shown solid."""
    materials: dict[str, MtlMaterial] = {}
    material = MtlMaterial("")
    for line in data.removeprefix(codecs.BOM_UTF8).splitlines():
        key, _, rest = decoded(line).strip().replace("\t", " ").partition(" ")
        key, rest = key.lower(), rest.strip()
        if not rest:
            continue
        if key == "newmtl":
            material = materials.setdefault(rest, MtlMaterial(rest))
        elif key == "kd":
            material.diffuse = _colour(rest)
        elif key == COLOUR_MAP:
            material.texture = texture_statement(rest)
        elif key.startswith(OTHER_MAPS):
            material.other_textures.append(texture_statement(rest))
    return materials


def texture_statement(stated: str) -> TextureStatement:
    """The options before a texture's name, which may hold spaces itself, taken apart."""
    rest, vectors, clamp = stated.strip(), {}, False
    while option := _OPTION.match(rest):
        rest = rest[option.end() :]
        if vector := option["vector"]:
            vectors[vector.lower()] = [float(value) for value in option["values"].split()]
        elif (option["single"] or "").lower() == "-clamp":
            clamp = option["value"].lower() == "on"
    name = rest.strip("\"'")
    return TextureStatement(stated, name, _pair(vectors.get("-s"), 1.0), _pair(vectors.get("-o"), 0.0), clamp)


def possible_paths(name: str) -> Iterator[str]:
    """Paths with forward slashes under which a file may lie that somebody else's machine named: the likeliest first.

    The name as it stands; without quotes; and of an absolute one (`C:\\scan\\skin.png`, `/home/ann/skin.png`,
    `file:///...`) the last component, because the file is mostly beside.
    """
    unquoted = name.strip().strip("\"'")
    for candidate in dict.fromkeys((name, unquoted)):
        if not is_absolute(candidate):
            yield candidate.replace("\\", "/")
    if is_absolute(unquoted):
        yield PureWindowsPath(unquoted).name


def is_absolute(name: str) -> bool:
    """Of Windows, of POSIX, or a URL with a scheme."""
    return name.startswith(("/", "\\")) or bool(PureWindowsPath(name).drive) or "://" in name


def _colour(text: str) -> tuple[float, float, float] | None:
    """`Kd r g b`, or one value for all three; None for a spectral curve or an XYZ colour."""
    try:
        values = [float(word) for word in text.split()[:3]]
    except ValueError:
        return None
    red, green, blue = values if len(values) == 3 else (values * 3)[:3]
    return (red, green, blue) if math.isfinite(red + green + blue) else None


def _pair(values: list[float] | None, default: float) -> tuple[float, float]:
    """Of u and v; of three values the last is a depth."""
    first, second = [*(values or ()), default, default][:2]
    return first, second

"""What the gate judges of an item: the mesh that the teacher stored, or else what its other casts have to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from models import plugins
from models.cameras import Camera
from models.casts import MESH, Cast, mesh, stored_kinds
from models.errors import EmptyOutput
from models.geometry import ByteArray, Mesh, coarsened
from models.meshfiles import read_glb
from models.rendering import Platform, render
from tasks.engine.stage import Item

Draw = Callable[[Sequence[Camera], int], ByteArray | None]
"""RGBA (V, S, S, 4) as the cameras see it; None where it cannot be seen from there."""
OUTLINE_CELL = 1 / 64
"""A viewpoint is searched with a mesh coarsened to this, under a pixel of the search."""


@dataclass(frozen=True)
class Judged:
    """A cast, or nothing that could be measured (kind None).

    surface: where it has one. coloured: whether the colours that it is drawn with are its own. outline: makes what
    draws it for a search, where colours do not matter.
    """

    kind: str | None
    surface: Mesh | None
    coloured: bool
    look: Draw
    outline: Callable[[], Draw]

    def draw(self, cameras: Sequence[Camera], size_px: int) -> ByteArray:
        """Raises EmptyOutput where it cannot be seen from there."""
        return seen_through(self.look, cameras, size_px)


def _nothing(cameras: Sequence[Camera], size_px: int) -> None:
    return None


NOTHING = Judged(None, None, False, _nothing, lambda: _nothing)


def seen_through(look: Draw, cameras: Sequence[Camera], size_px: int) -> ByteArray:
    """What it draws. Raises EmptyOutput where it draws nothing."""
    if (drawn_VSS4 := look(cameras, size_px)) is None:
        raise EmptyOutput("the teacher's cast cannot be drawn from where the gate looks at it")
    return drawn_VSS4


def find_judged(item: Item, cameras: Sequence[Camera], size_px: int, platform: Platform) -> Judged:
    """The mesh, else the first kind that has a surface or can be drawn from the first of the cameras.

    Raises BadInput for files that are no cast.
    """
    for name, files in stored_kinds(item.names("teach")).items():
        if name == MESH:
            return of_mesh(item.read("teach", mesh.FILE), platform)
        kind = plugins.load("casts", name)
        cast = kind.from_files({file: item.read("teach", file) for file in files})
        if found := _of_kind(name, kind, cast, (cameras[:1], size_px), platform):
            return found
    return NOTHING


def of_mesh(glb: bytes, platform: Platform = "auto") -> Judged:
    """A mesh, drawn with its textures."""
    surface = Mesh.from_glb(glb)

    def outline() -> Draw:
        """Fewer triangles, where no texture may cut holes into them."""
        return _drawing(glb if surface.colours_N4 is None else coarsened(surface, OUTLINE_CELL), platform)

    return Judged(MESH, surface, _has_colours(glb), _drawing(glb, platform), outline)


def _of_kind(
    name: str, kind: Any, cast: Cast, trial: tuple[Sequence[Camera], int], platform: Platform
) -> Judged | None:
    """Drawn as its kind draws it; where that cannot, as its surface looks."""
    surface: Mesh | None = kind.surface(cast)
    if kind.rendering(cast, *trial) is not None:
        look: Draw = lambda cameras, size_px: kind.rendering(cast, cameras, size_px)  # noqa: E731
        return Judged(name, surface, True, look, lambda: look)
    if surface is None:
        return None
    drawing = _drawing(surface, platform)
    outline = lambda: _drawing(coarsened(surface, OUTLINE_CELL), platform)  # noqa: E731
    return Judged(name, surface, surface.colours_N4 is not None, drawing, outline)


def _drawing(source: bytes | Mesh, platform: Platform) -> Draw:
    return lambda cameras, size_px: render(source, cameras, size_px, platform=platform).rgba_VHW4


def _has_colours(glb: bytes) -> bool:
    """Whether the mesh brings colours or a texture; without, a render's colours are the renderer's."""
    return any(part.texture is not None or part.colours_N4 is not None for part in read_glb(glb))

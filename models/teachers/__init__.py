"""Teachers: expensive image-to-3D methods whose outputs students learn from.

A teacher is one module here: `Params` (its block), `NEEDS_CAMERAS` and `LICENCE` (what planning must know before it
is loaded), and `create(params, device) -> Teacher`, which loads what is heavy, once in a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.gaussians import Gaussians
from models.geometry import Mesh
from models.views import Views


@dataclass(frozen=True)
class Shape:
    """What a teacher makes of an object, in the canonical frame. `quality` holds the teacher's own figures."""

    mesh: Mesh
    gaussians: Gaussians | None = None
    quality: Mapping[str, Any] = field(default_factory=dict)


class Teacher(Protocol):
    """Makes a shape of views.

    needs_cameras: it cannot work on views whose cameras are unknown. licence: of its outputs.
    """

    @property
    def needs_cameras(self) -> bool: ...

    @property
    def licence(self) -> str: ...

    def generate(self, views: Views, *, seed: int) -> Shape:
        """Raises BadInput for views it can do nothing with, EmptyOutput when nothing comes of them."""
        ...

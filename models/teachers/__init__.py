"""Teachers: expensive image-to-3D methods whose outputs students learn from.

A teacher is one module here: `Params` (its block), `NEEDS_CAMERAS` and `LICENCE` (what planning must know before it
is loaded), and `create(params, site) -> Teacher`, which loads what is heavy, once in a worker. One that needs a GPU, or
an environment of its own, lives in a host (`models.hosting`), says `USES_GPU = True`, and its block extends
`models.hosting.teacher.HostedParams`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from models.gaussians import Gaussians
from models.geometry import Mesh
from models.hosting.client import Limits
from models.hosting.ladder import Evidence
from models.views import Views


@dataclass(frozen=True)
class Shape:
    """What a teacher makes of an object, in the canonical frame.

    latents: arrays that students may learn from besides (TRELLIS: coords_N3, slat_N8). quality: the teacher's own
    figures, which go into the record. rung: above 0 when memory ran out and it was made with less. measured: what it
    cost (seconds, memory), for the ledger alone.
    """

    mesh: Mesh
    gaussians: Gaussians | None = None
    latents: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)
    rung: int = 0
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Site:
    """Where a teacher works.

    device: "cpu" or "cuda:N". folder: for logs and reproducers. environments: where `lostwax teacher setup` keeps the
    teachers' environments. limits: when a host is replaced. evidence: what is known of a GPU, by its name.
    workspace: what paths in a block are relative to.
    """

    device: str = "cpu"
    folder: Path = Path()
    environments: Path = Path()
    limits: Limits = field(default_factory=Limits)
    evidence: Callable[[str], Iterable[Evidence]] = lambda gpu: ()
    workspace: Path = Path()


class Teacher(Protocol):
    """Makes a shape of views.

    needs_cameras: it cannot work on views whose cameras are unknown. licence: of its outputs.
    """

    @property
    def needs_cameras(self) -> bool: ...

    @property
    def licence(self) -> str: ...

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> Shape:
        """name: for messages and logs. rungs: try no more than so many rungs of the ladder, from the top.

        Raises BadInput for views it can do nothing with, EmptyOutput when nothing comes of them.
        """
        ...

    def close(self) -> None:
        """End what it has started."""
        ...

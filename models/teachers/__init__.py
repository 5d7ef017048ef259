"""Teachers: expensive image-to-3D methods whose outputs students learn from.

A teacher is one module here: `Params` (its block), `NEEDS_CAMERAS` and `LICENCE` (what planning must know before it
is loaded), and `create(params, site) -> Teacher`, which loads what is heavy, once in a worker. One that can do nothing
with some views for another reason has an `unfit(names, has_cameras) -> str | None` that says why. One that needs a GPU,
or an environment of its own, lives in a host (`models.hosting`), says `USES_GPU = True`, and its block extends
`models.hosting.teacher.HostedParams`. One that reads more of an item than its views (tokens, depth) has a
`wants(params, workspace) -> Wants | None`; weights that it reads stand in its `weights(params, workspace)`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy.typing as npt

from models.casts import Cast
from models.gaussians import Gaussians
from models.geometry import Mesh
from models.hosting.client import HostLimits
from models.hosting.ladder import Evidence
from models.needs import Needs
from models.views import Views


@dataclass(frozen=True)
class TeacherOutput:
    """What a teacher makes of an object, in the canonical frame.

    casts: at least one, at most one of each kind; the figures of the record are those of the first. latents: arrays
    that students may learn from besides (TRELLIS: coords_N3, slat_N8). quality: the teacher's own figures, which go
    into the record. rung: above 0 when memory ran out and it was made with less. measured: what it cost (seconds,
    memory), for the ledger alone.
    """

    casts: tuple[Cast, ...]
    latents: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)
    rung: int = 0
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = [type(cast).__name__ for cast in self.casts]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"at most one cast of each kind, not {', '.join(kinds)}")

    @property
    def mesh(self) -> Mesh | None:
        return next((cast for cast in self.casts if isinstance(cast, Mesh)), None)

    @property
    def gaussians(self) -> Gaussians | None:
        return next((cast for cast in self.casts if isinstance(cast, Gaussians)), None)


@dataclass(frozen=True)
class Wants:
    """What a teacher reads of an item beside its views: `Views.given` has it, and it enters the key.

    needs: what it is given of them. preparation: how images must have been made ready for it, as blocks of params.yaml;
    forms: what is given must have these (`models.students.Spec`). Where they differ, the teacher is unavailable.
    entries: of versions.yaml, those of other plug-ins whose results it hands on.
    """

    needs: Needs
    preparation: Mapping[str, Any] = field(default_factory=dict)
    forms: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[str, ...] = ()


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
    limits: HostLimits = field(default_factory=HostLimits)
    evidence: Callable[[str], Iterable[Evidence]] = lambda gpu: ()
    workspace: Path = Path()


class Teacher(Protocol):
    """Makes casts of views. licence: of what it makes."""

    @property
    def licence(self) -> str: ...

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> TeacherOutput:
        """name: for messages and logs. rungs: try no more than so many rungs of the ladder, from the top.

        Raises BadInput for views it can do nothing with, EmptyOutput when nothing comes of them.
        """
        ...

    def close(self) -> None:
        """End what it has started."""
        ...


def unfit(plugin: ModuleType, names: Collection[str], has_cameras: bool) -> str | None:
    """Why a teacher's plug-in can do nothing with views of these names: "it needs cameras". None where it can."""
    if plugin.NEEDS_CAMERAS and not has_cameras:
        return "it needs cameras"
    reason: str | None = plugin.unfit(names, has_cameras) if hasattr(plugin, "unfit") else None
    return reason

"""A teacher that does as it is told, brought by another package: hosted, without a library.

`script` names a JSON file of acts by item label: {"photo07": ["oom", "ok"]}. See scripted_runtime.py for the acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from models.geometry import Mesh
from models.hosting.messages import Arrays
from models.hosting.teacher import HostedParams, HostedTeacher
from models.teachers import Site, TeacherOutput

NEEDS_CAMERAS = False
LICENCE = "none"


class Params(HostedParams):
    """The `teachers.scripted` block."""

    LOCAL: ClassVar[frozenset[str]] = HostedParams.LOCAL | {"script", "load_s", "item_s", "card_mb"}

    script: str = ""
    """A folder with acts.json, and where every load, try and computation leaves a line."""
    load_s: float = 0
    """How long it takes to load."""
    item_s: float = 0
    """How long an item takes."""
    card_mb: float = 0
    """Memory of the simulated card: an item needs `resolution` times the share that its object covers."""
    resolution: int = 384
    """How much is made."""


def create(params: Params, site: Site) -> HostedTeacher:
    runtime = str(Path(__file__).with_name("scripted_runtime.py"))
    local = {"script": params.script, "load_s": params.load_s, "item_s": params.item_s, "card_mb": params.card_mb}
    return HostedTeacher(
        "scripted",
        params,
        site,
        runtime=runtime,
        licence=LICENCE,
        read_answer=read_answer,
        local_settings=local,
    )


def read_answer(arrays: Arrays, figures: Mapping[str, Any]) -> TeacherOutput:
    mesh = Mesh(arrays["vertices_N3"], arrays["faces_F3"], arrays.get("colours_N4"))
    return TeacherOutput((mesh,), quality={name: figures[name] for name in ("item", "resolution")})

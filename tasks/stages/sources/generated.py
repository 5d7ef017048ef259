"""Parametric objects instead of files: `{source: generated, shape: shoe, count: 128, seed: 0}`.

Item i depends on shape, seed and i alone: a larger count adds items and keeps the others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from models import shapes
from models.errors import BadInput
from models.normalise import MeshFile
from tasks.stages.sources import Found, Loaded, SourceParams

MAX_COUNT = 1_000_000
LICENCE = "CC0-1.0 (generated)"


class Params(SourceParams):
    source: Literal["generated"] = "generated"
    shape: Literal["shoe", "eyeglasses", "mixed"] = "shoe"
    """What is made; `mixed` takes turns."""
    count: int = Field(96, ge=1, le=MAX_COUNT)
    """How many."""
    seed: int = Field(0, ge=0)
    """Another seed, other objects."""


def find(params: Params, inbox: Path, digest: Callable[[Path], str]) -> Iterator[Found]:
    """One item for each index. Their meshes are made in the worker."""
    kinds = shapes.KINDS if params.shape == "mixed" else (params.shape,)
    for index in range(params.count):
        kind = kinds[index % len(kinds)]
        spec = {"shape": kind, "seed": params.seed * MAX_COUNT + index}
        sha256 = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
        yield Found(
            inputs=(("spec", sha256),),
            label=f"{kind}-{index:04d}",
            class_name=kind,
            source="generated",
            kind="mesh",
            payload=spec,
            licence=LICENCE,
            up_axis="y",
        )


def load(payload: Any, max_bytes: int) -> Loaded:
    """The mesh and the labels of one spec."""
    shape = shapes.make(payload["shape"], payload["seed"])
    data = shape.mesh.to_glb()
    if len(data) > max_bytes:
        raise BadInput(f"the generated mesh has {len(data)} bytes, the limit is {max_bytes} (ingest.max_file_mb)")
    return Loaded(MeshFile(data, "glb"), labels=shape.labels)

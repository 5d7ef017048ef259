"""Casts that are triangle meshes with coloured vertices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.cameras import Camera
from models.errors import EmptyOutput
from models.geometry import Mesh

CAST = Mesh
FILE = "mesh.glb"


def to_files(cast: Mesh) -> dict[str, bytes]:
    return {FILE: cast.to_glb()}


def from_files(files: Mapping[str, bytes]) -> Mesh:
    return Mesh.from_glb(files[FILE])


def check(cast: Mesh) -> dict[str, Any]:
    """Raises EmptyOutput for a mesh that is not finite or has no extent."""
    if not np.isfinite(cast.vertices_N3).all() or not cast.extents.any():
        raise EmptyOutput("the mesh is not finite or has no extent")
    return {"vertices": len(cast.vertices_N3), "faces": len(cast.faces_F3)}


def surface(cast: Mesh) -> Mesh:
    return cast


def rendering(cast: Mesh, cameras: Sequence[Camera], size_px: int) -> npt.NDArray[np.uint8]:
    """(V, H, W, 4): the colours of the vertices, grey where there are none, alpha 0 beside it."""
    from models.rendering import render

    return render(cast, cameras, size_px).rgba_VHW4


def describe(cast: Mesh) -> str:
    return f"{len(cast.vertices_N3)} vertices, {len(cast.faces_F3)} triangles"


EXPORTS: Mapping[str, Callable[[Mesh], bytes]] = {".glb": Mesh.to_glb}

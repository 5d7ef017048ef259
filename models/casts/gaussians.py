"""Casts that are Gaussians: a 3DGS PLY in the canonical frame. Nothing here draws them or finds their surface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from models.cameras import Camera
from models.casts import _fields
from models.errors import EmptyOutput
from models.exam import Exam
from models.gaussians import Gaussians
from models.metric import Metric

CAST = Gaussians
FILE = "gaussians.ply"
BOX_TOLERANCE = 0.02
"""How far outside the canonical box centres may lie."""
MAX_OUTSIDE_SHARE = 0.1
"""Share of the centres that may lie farther out: stray ones are usual, another frame or scale is not."""
SHORTEST_QUATERNION = 1e-6
SHAPES: Mapping[str, tuple[int, ...]] = {
    "means_N3": (3,),
    "log_scales_N3": (3,),
    "rotations_N4": (4,),
    "opacity_logits_N": (),
    "sh_dc_N3": (3,),
}
"""Of one Gaussian, by field."""
_OWNER = "Gaussians have"


def to_files(cast: Gaussians) -> dict[str, bytes]:
    return {FILE: cast.to_ply()}


def from_files(files: Mapping[str, bytes]) -> Gaussians:
    return Gaussians.from_ply(files[FILE])


def as_stored(cast: Gaussians) -> Gaussians:
    """Every array float32, finite, and as long as the others."""
    arrays = {name: _fields.floats(getattr(cast, name), _OWNER, name, *shape) for name, shape in SHAPES.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise EmptyOutput(f"{_OWNER} fields of different lengths: {lengths}")
    return Gaussians(**arrays)


def check(cast: Gaussians) -> dict[str, Any]:
    """How many there are. Raises EmptyOutput for none, or some that are not finite or have no rotation."""
    if len(cast.means_N3) == 0:
        raise EmptyOutput("Gaussians are none")
    for name in SHAPES:
        _fields.refuse_not_finite(getattr(cast, name), _OWNER, name)
    if (np.linalg.norm(cast.rotations_N4, axis=1) < SHORTEST_QUATERNION).any():
        raise EmptyOutput(f"{_OWNER} rotations of length 0 (rotations_N4)")
    return {"gaussians": len(cast.means_N3)}


def check_frame(cast: Gaussians) -> None:
    outside_N = np.abs(cast.means_N3).max(axis=1) > 0.5 + BOX_TOLERANCE
    if (share := float(outside_N.mean())) > MAX_OUTSIDE_SHARE:
        raise EmptyOutput(f"Gaussians leave the canonical box: {share:.0%} of their centres lie beyond .5")


def surface(cast: Gaussians) -> None:
    return None


def rendering(cast: Gaussians, cameras: Sequence[Camera], size_px: int) -> None:
    return None


METRICS: tuple[Metric, ...] = ()


def measure(cast: Gaussians, exam: Exam) -> dict[str, float]:
    return {}


def describe(cast: Gaussians) -> str:
    return f"{len(cast.means_N3)} Gaussians"


EXPORTS: Mapping[str, Callable[[Gaussians], bytes]] = {".ply": Gaussians.to_ply}

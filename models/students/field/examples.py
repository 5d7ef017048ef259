"""Tensors of one item, as the student is trained on them and predicts from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.errors import BadInput
from models.fields import Field
from models.geometry import ByteArray, FloatArray
from models.silhouettes import outline
from models.students import FeatureSpec
from models.students.field.evidence import RANGE
from models.students.field.placing import named_cameras, projection
from models.students.field.shape_space import ShapeSpace
from models.views import Views

LONE = "front"
"""What a photo is called whose name tells no side. Alone, it may show any."""
THRESHOLD = 0.5
"""Coverage at which a silhouette ends."""
KEPT_CELLS = 8_192
"""Cells that are kept near the surface, and in the band around it: every step draws from them."""

Grids = Mapping[str, npt.NDArray[np.float16]]


def observed(spec: FeatureSpec, grids: Grids, views: Views, size_px: int) -> dict[str, torch.Tensor]:
    """What is seen of an item, with a place for each of the student's views.

    `projections` are those of the known cameras, else of the cameras that the names stand for; `placed` are the views
    that have one; `named` prefers what the names stand for. Raises BadInput for an item without any of the student's
    views.
    """
    names = [name for name in spec.views if name in grids and name in views.names]
    if not names:
        raise BadInput(f"its views {', '.join(views.names)} are none of the student's: {', '.join(spec.views)}")
    views = views.select(tuple(names))
    if views.rgba_VHW4.shape[1:3] != (size_px, size_px):
        raise BadInput(f"its views are {views.rgba_VHW4.shape[1:3]} px; the student takes squares of {size_px} px")
    tokens_VHWC, present_V = spec.arrange({name: grids[name] for name in names})
    num_views = len(spec.views)
    silhouettes_VSS = np.full((num_views, size_px, size_px), -1, np.float16)
    rgb_V3SS = np.zeros((num_views, 3, size_px, size_px), np.uint8)
    projections_V34, named_V34 = (np.tile(_NOWHERE, (num_views, 1, 1)) for _ in range(2))
    placed_V = np.zeros(num_views, np.bool_)
    known = views.cameras or (None,) * len(names)
    fitted = named_cameras(names, views.rgba_VHW4[..., 3])
    for name, rgba_SS4, camera, named in zip(names, views.rgba_VHW4, known, fitted, strict=True):
        place = spec.views.index(name)
        silhouettes_VSS[place], rgb_V3SS[place] = _outlined(rgba_SS4, name)
        if (taken := camera or (None if names == [LONE] else named)) is not None:
            projections_V34[place], placed_V[place] = projection(taken, size_px), True
        named_V34[place] = projections_V34[place] if named is None else projection(named, size_px)
    arrays = {
        "tokens": tokens_VHWC,
        "present": present_V,
        "placed": placed_V,
        "silhouettes": silhouettes_VSS,
        "rgb": rgb_V3SS,
        "projections": projections_V34,
        "named": named_V34,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def targets(field: Field) -> dict[str, torch.Tensor]:
    """What is to be learned of an item: its field, a coarse one for the shape space, and cells to ask for."""
    distance_X = field.distance_RRR.reshape(-1)
    near_M, band_M = field.coloured, np.flatnonzero(np.abs(distance_X) < np.float16(0.95 * reach(field.truncation)))
    if len(near_M) == 0:
        raise BadInput("its field has no surface")
    rng = np.random.default_rng(len(near_M))
    kept_K = rng.integers(len(near_M), size=KEPT_CELLS)
    rgb_M3 = np.zeros((len(near_M), 3), np.uint8) if field.colours_M3 is None else field.colours_M3
    return {
        "field": torch.from_numpy(distance_X),
        "coarse": coarse(field),
        "near": torch.from_numpy(near_M[kept_K].astype(np.int32)),
        "colours": torch.from_numpy(rgb_M3[kept_K]),
        "coloured": torch.tensor(field.colours_M3 is not None),
        "band": torch.from_numpy(rng.choice(band_M, KEPT_CELLS).astype(np.int32)),
    }


def coarse(field: Field) -> torch.Tensor:
    """The field on the cells of the shape space, flat, float16."""
    volume = torch.from_numpy(field.distance_RRR.astype(np.float32)).clamp(-RANGE, RANGE)[None, None]
    side = (ShapeSpace.RESOLUTION,) * 3
    return functional.interpolate(volume, size=side, mode="area").flatten().half()


def reach(truncation: float) -> float:
    """Distances that are told apart: what the field and the evidence both cover."""
    return min(truncation, RANGE)


_NOWHERE = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)
"""A projection that is finite, for views that are not placed."""


def _outlined(rgba_SS4: ByteArray, name: str) -> tuple[FloatArray, ByteArray]:
    """Distance to the silhouette's edge in half images, and colours (3, S, S) that go on beyond the edge."""
    found = outline(rgba_SS4[..., 3], THRESHOLD)
    if found is None:
        raise BadInput(f"view {name} shows no object: its silhouette is empty")
    rows_SS, columns_SS = np.where(found.distance_HW > 0, np.indices(found.distance_HW.shape), found.edge_2HW)
    return found.distance_HW * (2 / len(rgba_SS4)), rgba_SS4[rows_SS, columns_SS, :3].transpose(2, 0, 1)

"""Arrays of one item, as the student is trained on them and predicts from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from models.cameras import Camera
from models.errors import BadInput
from models.fields import Field
from models.geometry import ByteArray, FloatArray
from models.silhouettes import silhouette_distance
from models.students import FeatureSpec
from models.students.field.evidence import RANGE
from models.students.field.placing import named_cameras, projection

LONE = "front"
"""What a photo is called whose name tells no side. Alone, it may show any."""
THRESHOLD = 0.5
"""Coverage at which a silhouette ends."""
KEPT_POINTS = 8_192
"""Cells kept near the surface, and as many in the band around it: every step draws from them."""
NEAR_CELLS = 1.5
"""What near means, in cells: these have colours."""

Example = dict[str, npt.NDArray[np.generic]]


def observed(
    spec: FeatureSpec,
    tokens: Mapping[str, npt.NDArray[np.float16]],
    images: Mapping[str, ByteArray],
    cameras: Mapping[str, Camera] | None,
) -> Example:
    """What is seen of an item: token grids (H, W, C), matted square images (S, S, 4) and cameras by view.

    `named` are the projections of cameras that the names stand for, `projections` the known ones where there are any.
    Raises BadInput for an item without any of the student's views.
    """
    names = [name for name in spec.views if name in tokens and name in images]
    if not names:
        raise BadInput(f"its views {', '.join(tokens)} are none of the student's: {', '.join(spec.views)}")
    size_px = images[names[0]].shape[0]
    num_views = len(spec.views)
    example: Example = {
        "tokens": np.zeros((num_views, *spec.grid, spec.channels), np.float16),
        "present": np.zeros(num_views, np.bool_),
        "placed": np.zeros(num_views, np.bool_),
        "silhouettes": np.full((num_views, size_px, size_px), -1, np.float16),
        "rgb": np.zeros((num_views, 3, size_px, size_px), np.uint8),
        "projections": np.tile(_NOWHERE, (num_views, 1, 1)),
        "named": np.tile(_NOWHERE, (num_views, 1, 1)),
    }
    fitted = dict(zip(names, named_cameras(names, np.stack([images[name][..., 3] for name in names])), strict=True))
    for name in names:
        place = spec.views.index(name)
        example["tokens"][place] = tokens[name]
        example["present"][place] = True
        example["silhouettes"][place], example["rgb"][place] = _outlined(images[name])
        if (named := fitted[name]) is not None:
            example["named"][place] = projection(named, size_px)
        camera = cameras[name] if cameras and name in cameras else None if names == [LONE] else named
        if camera is not None:
            example["placed"][place] = True
            example["projections"][place] = projection(camera, size_px)
    return example


def targets(field: Field, rng: np.random.Generator) -> Example:
    """What is to be learned of an item: its field, and cells to ask for."""
    distance_X = field.distance_RRR.reshape(-1)
    near_M = field.coloured
    band_M = np.flatnonzero(np.abs(distance_X) < np.float16(min(field.truncation, RANGE) * 0.95))
    if len(near_M) == 0:
        raise BadInput("its field has no surface")
    kept_K = rng.integers(len(near_M), size=KEPT_POINTS)
    colours_K3 = np.zeros((KEPT_POINTS, 3), np.uint8) if field.colours_M3 is None else field.colours_M3[kept_K]
    return {
        "field": distance_X.clip(-RANGE, RANGE).astype(np.float16),
        "near": near_M[kept_K].astype(np.int32),
        "colours": colours_K3,
        "coloured": np.array(field.colours_M3 is not None),
        "band": rng.choice(band_M, KEPT_POINTS).astype(np.int32),
    }


_NOWHERE = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)
"""A projection that is finite, for views that are not placed."""


def _outlined(rgba_SS4: ByteArray) -> tuple[FloatArray, ByteArray]:
    """Distance to the silhouette's edge in half images, and colours (3, S, S) that go on beyond the edge."""
    from scipy import ndimage

    size_px = rgba_SS4.shape[0]
    distance_SS = silhouette_distance(rgba_SS4[..., 3], THRESHOLD)
    if distance_SS is None:
        raise BadInput("a view shows no object: its silhouette is empty")
    row_SS, column_SS = ndimage.distance_transform_edt(
        rgba_SS4[..., 3] < 255 * THRESHOLD, return_distances=False, return_indices=True
    )
    return distance_SS * (2 / size_px), rgba_SS4[row_SS, column_SS, :3].transpose(2, 0, 1)

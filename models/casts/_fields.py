"""The arrays of a cast in the types of its file: converted where they can be, else named in an EmptyOutput.

`owner` begins the message: "mesh has". `field` is the array's name with the letters of its shape: vertices_N3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import EmptyOutput
from models.geometry import ByteArray, FloatArray, IntArray

OVERSHOOT = 1e-3
"""How far outside of 0 to 1 a colour may lie: what rounding and interpolation leave."""


def floats(values: Any, owner: str, field: str, *shape: int) -> FloatArray:
    """float32 (N, *shape), all finite."""
    array = _numbers(values, owner, field, (shape,))
    with np.errstate(over="ignore"):
        found: FloatArray = array.astype(np.float32, copy=False)
    refuse_not_finite(found, owner, field)
    return found


def corners(values: Any, owner: str, field: str, num_vertices: int) -> IntArray:
    """int32 (F, 3), each the index of a vertex."""
    array = _numbers(values, owner, field, ((3,),))
    if array.dtype.kind == "f" and not (np.isfinite(array) & (np.rint(array) == array)).all():
        raise EmptyOutput(f"{owner} {_words(field)} that are no whole numbers ({field})")
    if array.size and not (array.min() >= 0 and array.max() < num_vertices):
        reach = f"{array.min()} to {array.max()}, there are {num_vertices}"
        raise EmptyOutput(f"{owner} {_words(field)} that point at no vertex ({field}: {reach})")
    found: IntArray = array.astype(np.int32, copy=False)
    return found


def colours(values: Any, owner: str, field: str, num_vertices: int) -> ByteArray:
    """uint8 RGBA (N, 4) of RGB or RGBA: floats from 0 to 1, 16 bit, or integers from 0 to 255."""
    array = _numbers(values, owner, field, ((3,), (4,)))
    if len(array) != num_vertices:
        raise EmptyOutput(f"{owner} {len(array)} {_words(field)} ({field}) and {num_vertices} vertices")
    low, high, scale = 0.0, 255.0, 1.0
    if array.dtype.kind == "f":
        refuse_not_finite(array, owner, field)
        low, high, scale = -OVERSHOOT, 1 + OVERSHOOT, 255.0
    elif array.dtype == np.uint16:
        high, scale = 65535.0, 1 / 257
    if array.size and not (array.min() >= low and array.max() <= high):
        limits = "0 to 1" if array.dtype.kind == "f" else f"0 to {high:.0f}"
        reach = f"{array.dtype} from {array.min():.4g} to {array.max():.4g}, where {limits} is meant"
        raise EmptyOutput(f"{owner} {_words(field)} out of range ({field}: {reach})")
    if array.dtype == np.uint8 and array.shape[1] == 4:
        return array
    rgba_N4 = np.full((num_vertices, 4), 255, np.uint8)
    rgba_N4[:, : array.shape[1]] = np.rint(scale * array.astype(np.float64)).clip(0, 255)
    return rgba_N4


def _numbers(values: Any, owner: str, field: str, shapes: tuple[tuple[int, ...], ...]) -> npt.NDArray[Any]:
    """An array of numbers (N, *shape) of one of the shapes."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" or array.ndim == 0 or array.shape[1:] not in shapes:
        wanted = " or ".join(str(("N", *shape)).replace("'", "") for shape in shapes)
        raise EmptyOutput(
            f"{owner} {_words(field)} that are {array.dtype} {array.shape}, not numbers {wanted} ({field})"
        )
    return array


def refuse_not_finite(array: npt.NDArray[Any], owner: str, field: str) -> None:
    bad_N = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if bad_N.any():
        counts = f"{int(bad_N.sum())} of {len(array)} are NaN or infinite"
        raise EmptyOutput(f"{owner} {_words(field)} that are not finite ({field}: {counts})")


def _words(field: str) -> str:
    """`log scales` of `log_scales_N3`."""
    return field.rpartition("_")[0].replace("_", " ")

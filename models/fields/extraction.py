"""From a field to its surface: evaluated coarse to fine, only where the surface passes, then marching cubes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import EmptyOutput
from models.fields import HALF_SIDE
from models.geometry import FloatArray, Mesh

REACH = 0.35
"""Points whose distance, read off the coarser lattice, is under so many of its steps are evaluated on the finer one."""
FAINT = 0.02
"""The least distance of a field up to which a surface too thin for the lattice is looked for, in world units."""

Evaluate = Callable[[FloatArray], FloatArray]
"""Points (N, 3) to signed distances (N,), negative inside."""


@dataclass(frozen=True)
class Lattice:
    """Values at the points `origin_3` + index * step. What lies beyond them is outside the shape."""

    values_XYZ: FloatArray
    origin_3: FloatArray
    step: float

    def points(self, chosen_XYZ: npt.NDArray[np.bool_]) -> FloatArray:
        """Positions (N, 3) of the chosen points."""
        return (self.origin_3 + np.argwhere(chosen_XYZ) * self.step).astype(np.float32)


def whole_cube(cells: int) -> Lattice:
    """A lattice without values (zeros) over the cube of fields."""
    step = 2 * HALF_SIDE / cells
    return Lattice(np.zeros((cells + 1,) * 3, np.float32), np.full(3, -HALF_SIDE, np.float32), step)


def refined(lattice: Lattice, evaluate: Evaluate, *, max_points: int, finest: float) -> Lattice:
    """The lattice of half the step around the surface, and again of that.

    Stops before a step under `finest` and before more than `max_points` would be evaluated at once: a small or thin
    object, of which fewer points are near the surface, gets a finer lattice.
    """
    while lattice.step / 2 >= finest:
        reach = REACH * lattice.step
        near = _cut(lattice, np.abs(lattice.values_XYZ) < reach)
        if near is None:
            return lattice
        finer = _halved(near)
        wanted_XYZ = np.abs(finer.values_XYZ) < reach
        wanted_XYZ[::2, ::2, ::2] = False
        if np.count_nonzero(wanted_XYZ) > max_points:
            return lattice
        finer.values_XYZ[wanted_XYZ] = evaluate(finer.points(wanted_XYZ))
        lattice = finer
    return lattice


def surface(lattice: Lattice) -> Mesh:
    """The closed zero level, faces outward; where nothing lies inside but a surface passes close by, what is closest.

    Raises EmptyOutput where no surface is near any point.
    """
    from skimage.measure import marching_cubes

    least = float(lattice.values_XYZ.min())
    if least > FAINT:
        raise EmptyOutput(f"the field has no surface: no point is nearer to one than {least:.3f}")
    # A sheet thinner than the lattice shows as a valley that stays positive: it is taken one quarter of a step thick.
    level = max(0.0, least + lattice.step / 4)
    padded = np.pad(lattice.values_XYZ, 1, constant_values=max(float(lattice.values_XYZ.max()), 2 * level, FAINT))
    vertices_N3, faces_F3, _, _ = marching_cubes(padded, level, allow_degenerate=False)
    world_N3 = (vertices_N3 - 1) * lattice.step + lattice.origin_3
    return Mesh(world_N3.astype(np.float32), np.ascontiguousarray(faces_F3, np.int32))


def _cut(lattice: Lattice, kept_XYZ: npt.NDArray[np.bool_]) -> Lattice | None:
    """The box of the points kept, and one more on each side where there is one; None where none is."""
    box, start_3 = [], []
    for axis, length in enumerate(kept_XYZ.shape):
        span = np.flatnonzero(kept_XYZ.any(axis=tuple({0, 1, 2} - {axis})))
        if len(span) == 0:
            return None
        start, stop = max(int(span[0]) - 1, 0), min(int(span[-1]) + 2, length)
        box.append(slice(start, stop))
        start_3.append(start)
    origin_3 = (lattice.origin_3 + np.array(start_3) * lattice.step).astype(np.float32)
    return Lattice(lattice.values_XYZ[tuple(box)], origin_3, lattice.step)


def _halved(lattice: Lattice) -> Lattice:
    """The same values and those half-way between."""
    values = lattice.values_XYZ
    for axis in range(3):
        values = np.moveaxis(values, axis, 0)
        between = np.empty((2 * len(values) - 1, *values.shape[1:]), np.float32)
        between[::2], between[1::2] = values, (values[1:] + values[:-1]) / 2
        values = np.moveaxis(between, 0, axis)
    return Lattice(np.ascontiguousarray(values), lattice.origin_3, lattice.step / 2)

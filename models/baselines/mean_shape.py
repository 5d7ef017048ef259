"""The mean shape of a class: the level set of its mean truncated signed distance that encloses its mean volume.

Zero, the level of each shape by itself, would be a straw man: outside weighs more than inside where shapes do not
overlap, and what zero encloses is a core of about half their volume, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import numpy.typing as npt
from skimage.measure import marching_cubes

from models.errors import EmptyOutput
from models.geometry import Mesh
from models.occupancy import truncated_sdf

RESOLUTION = 64
TRUNCATION = 0.1
"""In units of the longest side: further away every shape counts the same."""


def mean_shape(meshes: Iterable[Mesh], num_threads: int = 1) -> Mesh:
    """The mean of canonical meshes, watertight; no more of them than threads are in memory at a time.

    It encloses as many cells as the meshes do on average. Raises EmptyOutput where no mesh encloses a volume.
    """
    sdf_sum_RRR = np.zeros((RESOLUTION,) * 3, np.float64)
    num_meshes = num_inside = 0
    waiting = iter(meshes)
    with ThreadPoolExecutor(num_threads) as pool:
        while batch := list(islice(waiting, num_threads)):
            for sdf_RRR in pool.map(lambda mesh: truncated_sdf(mesh, RESOLUTION, TRUNCATION), batch):
                sdf_sum_RRR += sdf_RRR
                num_inside += int((sdf_RRR < 0).sum())
            num_meshes += len(batch)
    if num_inside == 0:
        raise EmptyOutput(f"a mean shape needs meshes that enclose a volume; none of {num_meshes} does")
    mean_RRR = sdf_sum_RRR / num_meshes
    return _level_set(mean_RRR - _level_enclosing(mean_RRR, max(1, round(num_inside / num_meshes))))


def _level_enclosing(values_RRR: npt.NDArray[np.float64], num_cells: int) -> float:
    """A level with that many cells below it, midway to the next cell's value; 0 where all cells are to be below."""
    if num_cells >= values_RRR.size:
        return 0.0
    ordered = np.partition(values_RRR, (num_cells - 1, num_cells), axis=None)
    return float(ordered[num_cells - 1] + ordered[num_cells]) / 2


def _level_set(sdf_RRR: npt.NDArray[np.float64]) -> Mesh:
    """The zero level of values at the cell centres of [-.5, .5]^3, closed where it reaches the border."""
    padded = np.pad(sdf_RRR, 1, constant_values=TRUNCATION)
    vertices_N3, faces_F3, _, _ = marching_cubes(padded, 0.0, allow_degenerate=False)
    vertices_N3 = (vertices_N3 - 0.5) / RESOLUTION - 0.5
    return Mesh(vertices_N3.astype(np.float32), faces_F3.astype(np.int32))

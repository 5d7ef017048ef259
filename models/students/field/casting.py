"""A cast of the network's field: evaluated where the surface may pass, turned into a mesh, coloured."""

from __future__ import annotations

import numpy as np
import torch

from models.fields.extraction import Evaluate, Lattice, refined, surface, whole_cube
from models.geometry import FloatArray, Mesh
from models.students.field.evidence import RANGE, Seen, look, sample_volume
from models.students.field.network import Network, Reading

COARSE_CELLS = 32
FINEST = 1 / 200
"""The least step of a lattice, in world units."""
DOUBT = 0.35
"""Points of the coarse lattice are evaluated where guess or hull come closer than this part of RANGE to the surface."""


@torch.inference_mode()
def cast(network: Network, seen: Seen, *, max_points: int) -> Mesh:
    """The coloured mesh of one item. No lattice but the coarsest asks for more than `max_points`.

    Raises EmptyOutput where its field has no surface.
    """
    reading = network.read(seen, torch.full((1,), -1, device=seen.present_BV.device))

    def evaluate(points_N3: FloatArray) -> FloatArray:
        return network.at(reading, _points(points_N3, reading))[1][0].cpu().numpy()

    lattice = _coarse(reading, whole_cube(COARSE_CELLS), evaluate)
    mesh = surface(refined(lattice, evaluate, max_points=max_points, finest=FINEST))
    vertices_1N3 = _points(mesh.vertices_N3, reading)
    hidden, _, sight = network.at(reading, vertices_1N3)
    rgb_N3 = network.colours(reading, hidden, sight)[0].cpu().numpy()
    rgba_N4 = np.concatenate([np.rint(rgb_N3.clip(0, 1) * 255), np.full((len(rgb_N3), 1), 255)], axis=1)
    return Mesh(mesh.vertices_N3, mesh.faces_F3, rgba_N4.astype(np.uint8))


def _coarse(reading: Reading, lattice: Lattice, evaluate: Evaluate) -> Lattice:
    """Values on the coarse lattice: the network's where guess and hull leave it open, else the guess."""
    everywhere = np.ones(lattice.values_XYZ.shape, bool)
    points_1N3 = _points(lattice.points(everywhere), reading)
    guess_N = sample_volume(reading.guess_BRRR, points_1N3)[0].cpu().numpy()
    placed = bool(reading.seen.placed_BV.any())
    hull_N = look(reading.seen, points_1N3).hull()[0].cpu().numpy() if placed else guess_N
    limit = DOUBT * RANGE
    open_N = (np.abs(guess_N) < limit) | (np.abs(hull_N) < limit) | ((guess_N < 0) != (hull_N < 0))
    open_XYZ = open_N.reshape(everywhere.shape)
    values_XYZ = guess_N.reshape(everywhere.shape).copy()
    values_XYZ[open_XYZ] = evaluate(lattice.points(open_XYZ))
    return Lattice(values_XYZ, lattice.origin_3, lattice.step)


def _points(points_N3: FloatArray, reading: Reading) -> torch.Tensor:
    return torch.from_numpy(points_N3).to(reading.guess_BRRR.device)[None]

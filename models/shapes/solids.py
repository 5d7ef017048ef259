"""Closed surfaces from rings of points: the clay of the parametric shapes.

Legend: R rings, K points a ring, P points of a path. Lengths in metres, float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.geometry import Mesh

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Rgb = tuple[float, float, float]
"""A colour, each channel 0 to 1."""

CAP_INSET = 0.1
"""An inner ring this far towards a cap's midline keeps its rim crisp under smooth shading."""


@dataclass(frozen=True)
class Solid:
    """A watertight, outward-wound triangle surface: vertices_N3, faces_F3, colours_N3 (0 to 1)."""

    vertices_N3: Floats
    faces_F3: Ints
    colours_N3: Floats


def loft(rings_RK3: Floats, colours: Floats | Rgb) -> Solid:
    """The solid through R closed rings, capped at both ends.

    K is even, and point j of a ring faces point K-j: caps span these pairs, so they follow bent outlines.
    colours: (R, K, 3), or one colour.
    """
    num_points = rings_RK3.shape[1]
    colours_RK3 = np.broadcast_to(np.asarray(colours, np.float64), rings_RK3.shape)
    first, last = _inset(rings_RK3[0]), _inset(rings_RK3[-1])
    rings_RK3 = np.concatenate([first[None], rings_RK3, last[None]])
    colours_RK3 = np.concatenate([colours_RK3[:1], colours_RK3, colours_RK3[-1:]])
    start = _cap(num_points)
    end = _cap(num_points)[:, ::-1] + (len(rings_RK3) - 1) * num_points
    faces_F3 = np.concatenate([start, _walls(len(rings_RK3), num_points), end])
    return _outward(rings_RK3.reshape(-1, 3), faces_F3, colours_RK3.reshape(-1, 3))


def hoop(rings_RK3: Floats, colours: Floats | Rgb) -> Solid:
    """The ring-shaped solid whose last ring joins the first; colours as in `loft`."""
    num_rings, num_points = rings_RK3.shape[:2]
    colours_RK3 = np.broadcast_to(np.asarray(colours, np.float64), rings_RK3.shape)
    faces_F3 = _walls(num_rings + 1, num_points) % (num_rings * num_points)
    return _outward(rings_RK3.reshape(-1, 3), faces_F3, colours_RK3.reshape(-1, 3))


def section_rings(
    path_P3: Floats,
    reference_P3: Floats,
    half_sizes_P2: Floats,
    *,
    exponent: float,
    num_points: int,
    closed: bool,
) -> Floats:
    """Rings (P, K, 3) of superelliptic sections across a path, for `loft` (open) or `hoop` (closed).

    reference_P3: the direction of each section's second axis (made perpendicular to the path).
    half_sizes_P2: half lengths along the first and second axis. exponent: 2 is an ellipse, 8 nearly a box.
    """
    around = np.roll(path_P3, -1, axis=0) - np.roll(path_P3, 1, axis=0)
    tangent_P3 = around if closed else np.gradient(path_P3, axis=0)
    first_P3 = unit(np.cross(reference_P3, tangent_P3))
    second_P3 = unit(np.cross(tangent_P3, first_P3))
    angle_K = 2 * np.pi * (np.arange(num_points) + 0.5) / num_points
    if not closed:  # caps span the pairs (j, K-j), so point 0 lies on the symmetry axis
        angle_K = 2 * np.pi * np.arange(num_points) / num_points
    a_K, b_K = signed_power(np.cos(angle_K), 2 / exponent), signed_power(np.sin(angle_K), 2 / exponent)
    sizes_P2 = np.broadcast_to(half_sizes_P2, (len(path_P3), 2))
    across = first_P3[:, None] * (sizes_P2[:, :1] * a_K)[..., None]
    along = second_P3[:, None] * (sizes_P2[:, 1:] * b_K)[..., None]
    rings: Floats = path_P3[:, None] + across + along
    return rings


def to_mesh(solids: Sequence[Solid]) -> Mesh:
    """All solids as one mesh with vertex colours. Parts may overlap; each stays watertight."""
    offsets = np.cumsum([0, *(len(solid.vertices_N3) for solid in solids[:-1])])
    vertices = np.concatenate([solid.vertices_N3 for solid in solids])
    faces = np.concatenate([solid.faces_F3 + start for solid, start in zip(solids, offsets, strict=True)])
    rgb = np.concatenate([solid.colours_N3 for solid in solids]).clip(0, 1)
    rgba = np.full((len(rgb), 4), 255, np.uint8)
    rgba[:, :3] = np.round(rgb * 255)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32), rgba)


def signed_volume(vertices_N3: Floats, faces_F3: Ints) -> float:
    """Volume enclosed by a closed surface; negative where it is wound inward."""
    a, b, c = (vertices_N3[faces_F3[:, corner]] for corner in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def unit(vectors: Floats) -> Floats:
    """The vectors scaled to length 1 along the last axis."""
    scaled: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return scaled


def signed_power(values: Floats, exponent: float) -> Floats:
    powered: Floats = np.sign(values) * np.abs(values) ** exponent
    return powered


def smoothstep(values: Floats, start: float, end: float) -> Floats:
    """0 below `start`, 1 above `end`, a smooth cubic between."""
    t = np.clip((values - start) / (end - start), 0.0, 1.0)
    step: Floats = t * t * (3 - 2 * t)
    return step


def _outward(vertices_N3: Floats, faces_F3: Ints, colours_N3: Floats) -> Solid:
    if signed_volume(vertices_N3, faces_F3) < 0:
        faces_F3 = faces_F3[:, ::-1]
    return Solid(vertices_N3, faces_F3, colours_N3)


def _walls(num_rings: int, num_points: int) -> Ints:
    """Triangles between each ring and the next."""
    ring = np.arange(num_rings - 1)[:, None] * num_points
    here = np.arange(num_points)
    there = np.roll(here, -1)
    a, b = ring + here, ring + there
    c, d = a + num_points, b + num_points
    triangles: Ints = np.stack([np.stack([a, b, d], -1), np.stack([a, d, c], -1)], 2).reshape(-1, 3)
    return triangles


def _cap(num_points: int) -> Ints:
    """Triangles spanning a ring between the facing points j and K-j, wound against `_walls`' first ring."""
    j = np.arange(num_points // 2)
    a, b = j, j + 1
    c, d = (num_points - j) % num_points, num_points - j - 1
    triangles = np.concatenate([np.stack([a, d, b], -1), np.stack([a, c, d], -1)])
    x, y, z = triangles.T
    proper: Ints = triangles[(x != y) & (y != z) & (z != x)]  # the end pairs span triangles
    return proper


def _inset(ring_K3: Floats) -> Floats:
    """The ring moved towards the midline between its facing points."""
    num_points = len(ring_K3)
    index = np.arange(num_points)
    index = np.minimum(index, num_points - index).clip(2, num_points // 2 - 2)
    midline_K3 = (ring_K3[index] + ring_K3[-index]) / 2
    inset: Floats = ring_K3 + CAP_INSET * (midline_K3 - ring_K3)
    return inset

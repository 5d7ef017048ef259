"""What is joined to the upper or stands in its place: sole, heel, laces, saddle, straps."""

from __future__ import annotations

import numpy as np

from models.shapes.palette import COLOURS, shade
from models.shapes.shoe.design import Shoe
from models.shapes.shoe.last import NUM_AROUND, Last, rounding
from models.shapes.shoe.upper import Upper
from models.shapes.solids import Rgb, Solid, loft, section_rings, signed_power, unit


def sole(shoe: Shoe, last: Last) -> list[Solid]:
    colour = COLOURS[shoe.sole_colour]
    share = last.share_K
    bed = last.bed(share)
    spring = np.clip((share - 0.72) / 0.28, 0, None) ** 2 * shoe.toe_spring
    if shoe.sole_kind in ("unit", "wedge"):
        bottom = spring * 0.9 + 0.004 * np.clip((0.1 - share) / 0.1, 0, None)
    else:
        bottom = bed - shoe.sole_thickness
    welt = 1.07 if shoe.sole_kind == "unit" else 1.03
    steps = (
        (0.0, welt - 0.07),
        (0.06, welt - 0.02),
        (0.30, welt),
        (0.62, welt - 0.01),
        (0.9, welt),
        (1.0, welt - 0.03),
    )
    rings = np.stack([last.outline(grown, bottom + (bed - bottom) * t) for t, grown in steps])
    tint = np.broadcast_to(np.asarray(colour), rings.shape).copy()
    tint[:2] *= 0.7
    if shoe.sole_kind == "unit" and shoe.decor != "plain":
        tint[3] = COLOURS[shoe.accent]
    solids = [loft(rings, tint)]
    if shoe.sole_kind in ("block", "stiletto"):
        solids.append(_heel_block(shoe, last))
    return solids


def _heel_block(shoe: Shoe, last: Last) -> Solid:
    """The heel under the back of the plate, D-shaped, tapering to the ground."""
    stiletto = shoe.sole_kind == "stiletto"
    breast = 0.22 if stiletto else 0.30
    share_K = last.share_K * breast
    front = rounding((last.share_K - 0.7) / 0.3, 3.5)
    half_K = last.half_width(share_K) * front * 0.98
    top_K = last.bed(share_K) - shoe.sole_thickness * 0.5
    taper = 0.18 if stiletto else 0.86
    rings = []
    for t in (0.0, 0.03, 0.2, 0.4, 0.6, 0.8, 0.97, 1.0):
        narrow = taper + (1 - taper) * (1 - t) ** (2.6 if stiletto else 1.0)
        narrow *= 0.97 if t in (0.0, 1.0) else 1.0
        pivot = 0.055 * shoe.length + (0.01 if stiletto else 0.0)
        x_K = last.centre_x(share_K) + last.side_K * half_K * narrow
        z_K = pivot + (share_K * shoe.length - pivot) * narrow
        rings.append(np.stack([x_K, top_K * (1 - t), z_K], axis=1))
    return loft(np.stack(rings), shade(COLOURS[shoe.sole_colour], 0.85))


def laces(shoe: Shoe, upper: Upper) -> list[Solid]:
    """Cords across the vamp, from below the throat towards the toe."""
    colour: Rgb = COLOURS["white"] if shoe.colour != "white" else COLOURS[shoe.accent]
    if shoe.style == "boot":
        colour = COLOURS["mustard"]
    cords = []
    for t in np.linspace(0.72, 0.97, shoe.num_laces):
        width = (0.05 + 0.023 * (t - 0.72)) * NUM_AROUND
        points = np.linspace(-width, width, 14)
        path = upper.surface(points, float(t))
        arch = np.sqrt(np.clip(1 - (points / width) ** 2, 0, 1))
        towards = np.sign(path[-1, 0] - path[0, 0])
        normal = unit(np.array([[0.0, 1.0, 0.55]]) + np.outer(points / width, [0.7, 0, 0]) * towards)
        path = path + normal * (0.0015 + 0.0015 * arch)[:, None]
        sizes = np.array([[0.0036, 0.0026]])
        cords.append(loft(section_rings(path, normal, sizes, exponent=2.5, num_points=8, closed=False), colour))
    return cords


def saddle(shoe: Shoe, upper: Upper) -> Solid:
    """The strap across a loafer's vamp."""
    turn = np.linspace(-1, 1, 32)
    path = np.concatenate([upper.surface(np.array([0.19 * NUM_AROUND * p]), 0.84 - 0.62 * p * p) for p in turn])
    towards = np.sign(path[-1, 0] - path[0, 0])
    normal = unit(np.array([[0.0, 1.0, 0.35]]) + np.outer(signed_power(turn, 2.0), [1.6, 0, 0]) * towards)
    path = path + normal * 0.0015
    rings = section_rings(path, normal, np.array([[0.011, 0.0025]]), exponent=5, num_points=12, closed=False)
    return loft(rings, COLOURS[shoe.accent])


def straps(shoe: Shoe, last: Last) -> list[Solid]:
    """A sandal's straps: arches over the foot, and a loop behind the heel for the ankle kind."""
    colour = COLOURS[shoe.colour]
    arches = {
        "slide": [(0.64, 0.64, 0.058, 0.034)],
        "cross": [(0.54, 0.76, 0.060, 0.013), (0.76, 0.54, 0.064, 0.013)],
        "ankle": [(0.76, 0.74, 0.044, 0.010), (0.58, 0.58, 0.062, 0.010)],
    }[shoe.straps]
    solids = [_arch(last, *arch, colour) for arch in arches]
    if shoe.straps == "ankle":
        solids.append(_ankle_loop(shoe, last, colour))
    return solids


def _arch(last: Last, share_left: float, share_right: float, height: float, half_width: float, colour: Rgb) -> Solid:
    angle = np.linspace(-0.05, np.pi + 0.05, 30)
    share = share_left + (share_right - share_left) * (1 - np.cos(angle.clip(0, np.pi))) / 2
    half = last.half_width(share) * 0.94
    x = last.centre_x(share) + half * np.cos(angle)
    y = last.bed(share) - 0.003 + height * np.clip(np.sin(angle), 0, 1) ** 0.75 - 0.004 * (np.sin(angle) < 0)
    path = np.stack([x, y, share * last.shoe.length], axis=1)
    outward = unit(np.stack([np.cos(angle), np.sin(angle) * 1.4 + 0.05, 0 * angle], axis=1))
    sizes = np.array([[half_width, 0.0028]])
    rings = section_rings(path, outward, sizes, exponent=5, num_points=12, closed=False)
    return loft(rings, colour)


def _ankle_loop(shoe: Shoe, last: Last, colour: Rgb) -> Solid:
    """A band that leaves the bed at the arch, climbs behind the heel and returns."""
    turn = np.linspace(-1, 1, 40)
    share = 0.06 + 0.40 * np.abs(turn) ** 1.6
    side = np.sign(turn) * np.minimum(1, np.abs(turn) * 2.2) ** 0.6
    x = last.centre_x(share) + side * np.maximum(last.half_width(share), 0.022) * 0.97
    y = last.bed(share) + shoe.shaft_height * (1 - np.abs(turn) ** 2.2) - 0.004
    path = np.stack([x, y, share * shoe.length], axis=1)
    outward = unit(np.stack([side, 0 * turn, -(1 - np.abs(side)) - 0.05], axis=1))
    rings = section_rings(path, outward, np.array([[0.008, 0.0028]]), exponent=5, num_points=12, closed=False)
    return loft(rings, colour)

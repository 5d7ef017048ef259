"""The upper: the closed surface from the sole to the collar or the top of a shaft, and its lining."""

from __future__ import annotations

import numpy as np

from models.shapes.palette import COLOURS, GRAIN, shade
from models.shapes.shoe.design import Shoe
from models.shapes.shoe.last import NUM_AROUND, Last
from models.shapes.solids import Floats, Solid, loft, smoothstep, unit

STRIPES = np.array([column for first in (16, 20, 24) for column in (first, first + 1, -first, -first - 1)])
"""The ring points of three stripes on either side: colours change with columns, so their edges are clean."""

COLLAR_BACK = 0.025
"""Where the opening starts behind, as a share of the length."""

ANKLE_HEIGHT = 0.1
"""Where a shaft starts above the foot bed, metres."""

TOE_BOX = {"pointed": 0.042, "round": 0.055, "square": 0.05}
"""Height of the toes' room, metres."""


class Upper:
    """From each point of the footprint a curve climbs to the collar; the shaft and the lining follow."""

    def __init__(self, shoe: Shoe, last: Last) -> None:
        self.shoe, self.last = shoe, last
        share = last.share_K
        self.foot_K3 = last.outline(0.98, last.bed(share) - 0.35 * min(shoe.sole_thickness, 0.02))
        self.collar_K3 = self._collar()

    def _collar(self) -> Floats:
        """The rim of the opening, or of the ankle below a shaft."""
        shoe, last = self.shoe, self.last
        share_K = COLLAR_BACK + (shoe.throat_share - COLLAR_BACK) * last.share_K
        snug = {"heel": 0.93, "loafer": 0.8, "boot": 0.88, "high-top": 0.8}.get(shoe.style, 0.72)
        oval = np.sqrt(np.clip(1 - (2 * last.share_K - 1) ** 2, 0, 1))
        limit_K = last.half_width(share_K) * snug
        half_K = np.minimum(limit_K, shoe.width_share * shoe.length * 0.5 * snug * oval)
        rise = ANKLE_HEIGHT if self.has_shaft else shoe.shaft_height
        dip = {"heel": 0.45, "loafer": 0.25, "sneaker": 0.22}.get(shoe.style, 0.0)
        along = smoothstep(last.share_K, 0.0, 1.0)
        height = rise + (shoe.throat_height - rise) * along
        height = height * (1 - dip * np.sin(np.pi * last.share_K) ** 1.5)
        x_K = last.centre_x(share_K) + last.side_K * half_K
        return np.stack([x_K, last.bed(share_K) + height, share_K * shoe.length], axis=1)

    @property
    def has_shaft(self) -> bool:
        return self.shoe.style in ("boot", "high-top")

    def climb(self, t: float) -> Floats:
        """The ring (K, 3) at t of the way from the sole (0) to the collar (1): a Bezier curve for each point.

        At the sides it rises nearly straight; towards the toe (`frontal`) it climbs, then runs back.
        """
        foot, collar = self.foot_K3, self.collar_K3
        across = (collar - foot) * np.array([1.0, 0.0, 1.0])
        reach = np.linalg.norm(across, axis=1, keepdims=True)
        rise = (collar - foot)[:, 1:2]
        frontal = smoothstep(reach / self.shoe.length, 0.04, 0.3)
        lateral = 1 - frontal
        toe_box = min(TOE_BOX[self.shoe.toe], 0.95 * self.shoe.throat_height + 0.01)
        up = np.array([0.0, 1.0, 0.0])
        first = foot + up * (0.5 * rise * lateral + 1.15 * toe_box * frontal) - 0.10 * across * lateral
        second = (
            collar - across * (0.45 * frontal + 0.12 * lateral) - up * (0.36 * reach * frontal + 0.3 * rise * lateral)
        )
        s = 1 - t
        ring: Floats = s**3 * foot + 3 * s * s * t * first + 3 * s * t * t * second + t**3 * collar
        return ring

    def surface(self, point: Floats, t: float) -> Floats:
        """Positions (N, 3) at fractional ring indices `point` and t of the way up."""
        ring = self.climb(t)
        low = np.floor(point).astype(np.int64)
        part = (point - low)[:, None]
        mixed: Floats = ring[low % NUM_AROUND] * (1 - part) + ring[(low + 1) % NUM_AROUND] * part
        return mixed

    def solid(self) -> Solid:
        shoe = self.shoe
        heights = np.concatenate([[0.0], np.linspace(0.05, 0.96, 19), [1.0]])
        outer = [self.climb(float(t)) for t in heights]
        tint = [self._tint(ring, float(t)) for ring, t in zip(outer, heights, strict=True)]
        if self.has_shaft:
            shaft = self._shaft(outer[-1])
            outer += shaft
            tint += [self._shaft_tint(ring, (i + 1) / len(shaft)) for i, ring in enumerate(shaft)]
        lining = self._lining(outer)
        inside = np.asarray(shade(COLOURS[shoe.accent], 0.6)) * 0.6 + np.asarray(COLOURS["cream"]) * 0.25
        tint += [np.broadcast_to(inside, (NUM_AROUND, 3)) * dark for dark in (1.15, 1.0, 0.8, 0.55)]
        rings, colours = np.stack(outer + lining), np.stack(tint)
        grain = np.random.default_rng(shoe.grain_seed).normal(0, GRAIN[shoe.material], rings.shape[:2])
        return loft(rings, colours * (1 + grain[..., None]))

    def _shaft(self, ankle_K3: Floats) -> list[Floats]:
        """Rings from the ankle to the top edge, a little wider there and drawn towards an oval."""
        shoe = self.shoe
        top = max(float(self.last.bed(np.array(0.1))) + shoe.shaft_height, float(ankle_K3[:, 1].mean()) + 0.01)
        centre = ankle_K3.mean(axis=0)
        centre[2] = (ankle_K3[0, 2] + ankle_K3[NUM_AROUND // 2, 2]) / 2 - 0.012
        angle = 2 * np.pi * np.arange(NUM_AROUND) / NUM_AROUND
        wide = 0.24 + 0.10 * smoothstep(np.array(shoe.shaft_height), 0.1, 0.3)
        radius_z = shoe.length * (wide + 0.02) * 0.76
        radius_x = shoe.length * wide * 0.62
        oval = np.stack([np.sin(angle) * radius_x, 0 * angle, np.cos(angle) * radius_z], axis=1) + centre
        rings = []
        for t in np.linspace(0, 1, 11)[1:]:
            blend = float(smoothstep(np.array(t), 0.0, 1.0))
            ring = ankle_K3 * (1 - blend) + oval * blend
            ring[:, 1] = ankle_K3[:, 1] * (1 - t) + (top - 0.008 * np.cos(angle)) * t
            rings.append(ring)
        return rings

    def _lining(self, outer: list[Floats]) -> list[Floats]:
        """From the rim's rounded lip down inside the walls to the insole, or part of the way down a shaft."""
        rim_K3 = outer[-1]
        thick = 0.004 if self.shoe.style in ("heel", "loafer") else 0.007
        lip = _towards_axis(rim_K3, thick * 0.5) + np.array([0, thick * 0.5, 0])
        edge = _towards_axis(rim_K3, thick)
        if self.has_shaft:
            return [lip, edge, _towards_axis(outer[-4], thick), _towards_axis(outer[-8], thick * 1.5)]
        deep = _towards_axis(rim_K3, thick * 1.8)
        deep[:, 1] = self.last.bed(deep[:, 2] / self.shoe.length) + 0.007
        return [lip, edge, edge * 0.6 + deep * 0.4, deep]

    def _tint(self, ring_K3: Floats, t: float) -> Floats:
        """Colours (K, 3) of an outer ring: panels by where a point lies along the shoe and up the side."""
        shoe = self.shoe
        tint = np.broadcast_to(np.asarray(COLOURS[shoe.colour]), ring_K3.shape).copy()
        share_K = ring_K3[:, 2] / shoe.length
        if shoe.style in ("sneaker", "high-top"):
            self._sports_panels(tint, share_K, t)
        elif shoe.decor == "toe cap":
            tint[share_K > 0.84] = COLOURS[shoe.accent] if shoe.style == "heel" else shade(tint[0], 0.7)
        return tint * (0.80 + 0.20 * smoothstep(np.array(t), 0.0, 0.25))  # darker in the crease above the sole

    def _sports_panels(self, tint_K3: Floats, share_K: Floats, t: float) -> None:
        """Paint toe cap, stripes or a swoosh onto a ring of a sports shoe, and its collar."""
        shoe, accent = self.shoe, COLOURS[self.shoe.accent]
        if shoe.decor == "toe cap":
            tint_K3[share_K > 0.84] = COLOURS[shoe.sole_colour]
            tint_K3[share_K < 0.09] = accent
        elif shoe.decor == "stripes":
            tint_K3[STRIPES] = accent
        elif shoe.decor == "swoosh":
            sweep = 0.22 + 0.55 * np.clip((0.62 - share_K) / 0.5, 0, 1) ** 1.5
            tint_K3[(np.abs(t - sweep) < 0.10) & (share_K > 0.1) & (share_K < 0.7)] = accent
            tint_K3[share_K < 0.06] = accent
        if t > 0.93 and not self.has_shaft:
            tint_K3[:] = shade(accent, 0.9)

    def _shaft_tint(self, ring_K3: Floats, t: float) -> Floats:
        shoe = self.shoe
        tint = np.broadcast_to(np.asarray(COLOURS[shoe.colour]), ring_K3.shape).copy()
        if shoe.style == "boot" and shoe.decor == "plain" and t < 0.85:
            middle = np.abs(ring_K3[:, 2] - ring_K3[:, 2].mean()) < 0.018
            tint[middle] = COLOURS[shoe.accent]  # the elastic of a Chelsea boot
        if t > 0.9:
            tint[:] = COLOURS[shoe.accent] if shoe.style == "high-top" else shade(tint[0], 0.8)
        return tint


def _towards_axis(ring_K3: Floats, distance: float) -> Floats:
    """The ring moved horizontally towards its middle."""
    x, z = ring_K3[:, 0].mean(), (ring_K3[0, 2] + ring_K3[NUM_AROUND // 2, 2]) / 2
    inward = unit((np.array([x, 0.0, z]) - ring_K3) * np.array([1.0, 0.0, 1.0]))
    moved: Floats = ring_K3 + inward * distance
    return moved

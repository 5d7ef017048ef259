"""The last: the footprint and the foot bed that sole, upper and straps are built about."""

from __future__ import annotations

import numpy as np

from models.shapes.shoe.design import Shoe
from models.shapes.solids import Floats, smoothstep

NUM_AROUND = 80
"""Points around each ring of sole and upper."""

TOE_START = {"round": 0.70, "pointed": 0.60, "square": 0.80}
TOE_POWER = {"round": 2.0, "pointed": 1.25, "square": 2.9}
"""Where along the length a toe's rounding starts, and how full it is."""


class Last:
    """The foot's form: the footprint's outline and the height of the foot bed.

    `share` is a position along the length, 0 at the heel and 1 at the toe; z is share x length.
    """

    def __init__(self, shoe: Shoe) -> None:
        self.shoe = shoe
        angle = 2 * np.pi * np.arange(NUM_AROUND) / NUM_AROUND
        self.share_K = (1 + np.cos(angle)) / 2
        """Position along the length of each point of a ring: 1 at the toe (point 0), 0 at the heel."""
        self.side_K = np.sign(np.round(np.sin(angle), 9))

    def half_width(self, share: Floats) -> Floats:
        """Half the footprint's width, metres."""
        ball = self.shoe.width_share * self.shoe.length / 2
        profile = np.interp(share, [0.0, 0.16, 0.42, 0.70, 1.0], [0.70, 0.72, 0.74, 1.0, 0.98])
        profile = profile + 0.06 * np.sin(np.pi * share) ** 2
        heel = rounding((0.2 - share) / 0.2, 2.2)
        start = TOE_START[self.shoe.toe]
        toe = rounding((share - start) / (1 - start), TOE_POWER[self.shoe.toe])
        width: Floats = ball * profile * heel * toe
        return width

    def centre_x(self, share: Floats) -> Floats:
        """The footprint's bend: toes turn towards the other foot."""
        curve = 0.10 * (share - 0.45) ** 2 - 0.03 * np.sin(np.pi * share)
        bend: Floats = -self.shoe.side * self.shoe.length * curve
        return bend

    def bed(self, share: Floats) -> Floats:
        """Height of the foot bed above the ground, metres."""
        arch = 1 - smoothstep(share, 0.16, 0.68)
        spring = np.clip((share - 0.68) / 0.32, 0, None) ** 2
        bed: Floats = self.shoe.sole_thickness + self.shoe.heel_height * arch + self.shoe.toe_spring * spring
        return bed

    def outline(self, scale: float, heights_K: Floats, share_K: Floats | None = None) -> Floats:
        """A ring (K, 3) about the footprint, grown by `scale` about its centre line."""
        share_K = self.share_K if share_K is None else share_K
        x_K = self.centre_x(share_K) + self.side_K * self.half_width(share_K) * scale
        z_K = self.shoe.length * (0.5 + (share_K - 0.5) * (1 + (scale - 1) * self.shoe.width_share))
        return np.stack([x_K, heights_K, z_K], axis=1)


def rounding(t: Floats, power: float) -> Floats:
    """1 where t <= 0, falling to 0 at t = 1 along a superellipse."""
    falling: Floats = (1 - np.clip(t, 0, 1) ** power) ** (1 / max(power, 1.6))
    return falling

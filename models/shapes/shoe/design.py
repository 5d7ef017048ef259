"""What a shoe is before it has a form: its style's ranges, and the parameters drawn from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.shapes.palette import COLOURS, other_colour, pick


@dataclass(frozen=True)
class Style:
    """Ranges of a style: (low, high) in metres, or shares of the length where named so."""

    toes: tuple[str, ...]
    soles: tuple[str, ...]
    materials: tuple[str, ...]
    heel: tuple[float, float]
    sole: tuple[float, float]
    shaft: tuple[float, float]
    throat_share: tuple[float, float]
    throat_height: tuple[float, float]
    width_share: tuple[float, float] = (0.35, 0.43)


STYLES = {
    "sneaker": Style(
        toes=("round", "square"),
        soles=("unit",),
        materials=("canvas", "knit", "leather", "suede"),
        heel=(0.004, 0.018),
        sole=(0.016, 0.042),
        shaft=(0.055, 0.075),
        throat_share=(0.56, 0.66),
        throat_height=(0.062, 0.082),
    ),
    "high-top": Style(
        toes=("round", "square"),
        soles=("unit",),
        materials=("canvas", "leather", "suede"),
        heel=(0.002, 0.012),
        sole=(0.018, 0.036),
        shaft=(0.12, 0.16),
        throat_share=(0.50, 0.58),
        throat_height=(0.075, 0.09),
    ),
    "boot": Style(
        toes=("round", "pointed", "square"),
        soles=("block", "wedge"),
        materials=("leather", "suede", "rubber"),
        heel=(0.018, 0.075),
        sole=(0.008, 0.024),
        shaft=(0.12, 0.30),
        throat_share=(0.44, 0.5),
        throat_height=(0.085, 0.1),
    ),
    "heel": Style(
        toes=("pointed", "round", "square"),
        soles=("stiletto", "block", "wedge"),
        materials=("patent", "leather", "suede"),
        heel=(0.045, 0.11),
        sole=(0.005, 0.02),
        shaft=(0.05, 0.062),
        throat_share=(0.72, 0.8),
        throat_height=(0.034, 0.042),
        width_share=(0.29, 0.35),
    ),
    "loafer": Style(
        toes=("round", "square", "pointed"),
        soles=("block",),
        materials=("leather", "suede", "patent"),
        heel=(0.012, 0.035),
        sole=(0.007, 0.02),
        shaft=(0.052, 0.064),
        throat_share=(0.6, 0.68),
        throat_height=(0.052, 0.064),
        width_share=(0.33, 0.4),
    ),
    "sandal": Style(
        toes=("round", "square"),
        soles=("unit", "wedge"),
        materials=("leather", "rubber", "canvas"),
        heel=(0.002, 0.06),
        sole=(0.012, 0.034),
        shaft=(0.06, 0.085),
        throat_share=(0.5, 0.6),
        throat_height=(0.06, 0.075),
        width_share=(0.36, 0.44),
    ),
}


@dataclass(frozen=True)
class Shoe:
    """One shoe. Lengths in metres; `_share` is relative to the length; side is +1 (left) or -1 (right)."""

    style: str
    toe: str
    sole_kind: str
    material: str
    colour: str
    sole_colour: str
    accent: str
    size_eu: int
    side: int
    width_share: float
    heel_height: float
    sole_thickness: float
    toe_spring: float
    shaft_height: float
    throat_share: float
    throat_height: float
    num_laces: int
    straps: str
    decor: str
    grain_seed: int

    @property
    def length(self) -> float:
        """Metres: Paris points are two thirds of a centimetre, the last 1.5 cm longer than the foot."""
        return self.size_eu * 0.02 / 3

    @property
    def labels(self) -> dict[str, str]:
        return {
            "style": self.style,
            "toe": self.toe,
            "heel": self.sole_kind,
            "material": self.material,
            "colour": self.colour,
            "size": f"EU {self.size_eu}",
            "side": "left" if self.side > 0 else "right",
        }


def design(seed: int) -> Shoe:
    """The shoe of this seed."""
    rng = np.random.default_rng([seed, 0x5403])
    name = pick(rng, tuple(STYLES))
    style = STYLES[name]
    colour = pick(rng, tuple(COLOURS))
    light_sole = name in ("sneaker", "high-top") and rng.random() < 0.7
    sole_colour = pick(rng, ("white", "cream") if light_sole else ("black", "brown", "tan", "grey"))

    def between(low_high: tuple[float, float]) -> float:
        return float(rng.uniform(*low_high))

    sole_kind = pick(rng, style.soles)
    heel_height = between(style.heel)
    if sole_kind == "stiletto":
        heel_height = max(heel_height, 0.07)
    return Shoe(
        style=name,
        toe=pick(rng, style.toes),
        sole_kind=sole_kind,
        material=pick(rng, style.materials),
        colour=colour,
        sole_colour=sole_colour,
        accent=other_colour(rng, colour),
        size_eu=int(rng.integers(35, 47)),
        side=int(rng.choice([-1, 1])),
        width_share=between(style.width_share),
        heel_height=heel_height,
        sole_thickness=between(style.sole),
        toe_spring=between((0.003, 0.022)),
        shaft_height=between(style.shaft),
        throat_share=between(style.throat_share),
        throat_height=between(style.throat_height),
        num_laces=int(rng.integers(4, 7)),
        straps=pick(rng, ("slide", "cross", "ankle")),
        decor=pick(rng, ("stripes", "swoosh", "toe cap", "plain")),
        grain_seed=int(rng.integers(2**31)),
    )

"""Named colours and materials of the parametric shapes."""

from __future__ import annotations

import numpy as np

from models.shapes.solids import Floats, Rgb

COLOURS: dict[str, Rgb] = {
    "black": (0.10, 0.10, 0.11),
    "white": (0.92, 0.91, 0.88),
    "grey": (0.50, 0.51, 0.53),
    "cream": (0.88, 0.80, 0.66),
    "tan": (0.76, 0.55, 0.33),
    "brown": (0.40, 0.24, 0.14),
    "burgundy": (0.45, 0.09, 0.15),
    "red": (0.78, 0.14, 0.13),
    "orange": (0.90, 0.45, 0.12),
    "mustard": (0.84, 0.64, 0.16),
    "olive": (0.40, 0.42, 0.20),
    "green": (0.13, 0.48, 0.29),
    "teal": (0.10, 0.50, 0.54),
    "sky": (0.42, 0.67, 0.87),
    "navy": (0.12, 0.18, 0.40),
    "purple": (0.42, 0.23, 0.54),
    "pink": (0.91, 0.55, 0.64),
}

GRAIN = {"leather": 0.012, "patent": 0.0, "suede": 0.025, "canvas": 0.03, "knit": 0.03, "rubber": 0.01}
"""Standard deviation of the brightness of neighbouring vertices: what a material looks like up close."""


def pick(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]


def other_colour(rng: np.random.Generator, *taken: str) -> str:
    """A colour that stands out against those taken."""
    names = tuple(name for name in COLOURS if all(contrast(name, other) > 0.35 for other in taken))
    return pick(rng, names)


def contrast(one: str, other: str) -> float:
    """Distance of two named colours in RGB."""
    return float(np.linalg.norm(np.subtract(COLOURS[one], COLOURS[other])))


def shade(colour: Rgb | Floats, factor: float) -> Rgb:
    """The colour made darker (factor < 1) or lighter."""
    red, green, blue = (min(1.0, float(channel) * factor) for channel in colour)
    return red, green, blue

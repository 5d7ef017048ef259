"""Parametric eyeglasses: two rims with lenses, a bridge, end pieces and temples.

The lenses face +Z (the front), the temples run towards -Z, Y up, metres. `design(seed)` draws the parameters,
`build(glasses)` makes the solids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.shapes.palette import COLOURS, pick, shade
from models.shapes.solids import Floats, Rgb, Solid, hoop, loft, section_rings, signed_power, smoothstep, unit

NUM_AROUND = 56
"""Points along a lens outline."""

RIMS = {"round": 2.0, "square": 4.0, "rectangle": 4.5, "cat-eye": 2.8, "aviator": 2.3, "browline": 3.0}
"""Styles, and the exponent of the superellipse that their lens outline starts from."""

FRAMES: dict[str, tuple[str, ...]] = {
    "acetate": ("black", "brown", "tan", "burgundy", "navy", "teal", "red", "cream", "pink", "green"),
    "metal": ("black", "grey", "mustard", "tan"),
    "wood": ("brown", "tan"),
}

LENSES: dict[str, Rgb] = {
    "clear": (0.80, 0.87, 0.90),
    "smoke": (0.16, 0.17, 0.19),
    "amber": (0.62, 0.38, 0.14),
    "rose": (0.86, 0.58, 0.60),
    "green": (0.20, 0.34, 0.25),
    "blue": (0.26, 0.40, 0.62),
}


@dataclass(frozen=True)
class Eyeglasses:
    """One pair. Lengths in metres, angles in degrees."""

    rim: str
    material: str
    colour: str
    lens: str
    temple_colour: str
    lens_width: float
    lens_height: float
    bridge_width: float
    temple_length: float
    rim_width: float
    rim_depth: float
    wrap_deg: float
    tilt_deg: float
    splay: float
    temple_height: float
    ear_drop: float
    high_bridge: bool

    @property
    def labels(self) -> dict[str, str]:
        """The size is lens width, bridge and temple in millimetres, as printed on real temples."""
        sizes = (self.lens_width, self.bridge_width, self.temple_length)
        return {
            "style": self.rim,
            "material": self.material,
            "colour": self.colour,
            "lens": self.lens,
            "size": "-".join(str(round(length * 1000)) for length in sizes),
        }


def design(seed: int) -> Eyeglasses:
    """The eyeglasses of this seed."""
    rng = np.random.default_rng([seed, 0x91A5])
    rim = pick(rng, tuple(RIMS))
    material = "metal" if rim == "aviator" else pick(rng, tuple(FRAMES))
    colour = pick(rng, FRAMES[material])
    tall = {"round": (0.92, 1.04), "aviator": (0.84, 0.98), "rectangle": (0.46, 0.62)}.get(rim, (0.66, 0.86))
    lens_width = float(rng.uniform(0.043, 0.060))
    thin = material == "metal"
    return Eyeglasses(
        rim=rim,
        material=material,
        colour=colour,
        lens=pick(rng, tuple(LENSES)),
        temple_colour=colour if rng.random() < 0.7 else pick(rng, FRAMES[material]),
        lens_width=lens_width,
        lens_height=lens_width * float(rng.uniform(*tall)),
        bridge_width=float(rng.uniform(0.014, 0.024)),
        temple_length=float(rng.uniform(0.115, 0.150)),
        rim_width=float(rng.uniform(0.0013, 0.0022) if thin else rng.uniform(0.0022, 0.0052)),
        rim_depth=float(rng.uniform(0.0013, 0.0020) if thin else rng.uniform(0.0020, 0.0034)),
        wrap_deg=float(rng.uniform(0, 14)),
        tilt_deg=float(rng.uniform(0, 10)),
        splay=float(rng.uniform(-0.06, 0.10)),
        temple_height=float(rng.uniform(0.05, 0.85)),
        ear_drop=float(rng.uniform(0.012, 0.042)),
        high_bridge=bool(rng.random() < 0.5),
    )


def build(glasses: Eyeglasses) -> list[Solid]:
    """The watertight solids of the pair; they overlap where they are joined."""
    frame = COLOURS[glasses.colour]
    solids = [_bridge(glasses, frame)]
    if glasses.rim == "aviator":
        solids.append(_brow_bar(glasses, frame))
    for side in (1.0, -1.0):
        solids += [_rim(glasses, side), _lens(glasses, side), _temple(glasses, side)]
    return solids


def outline(glasses: Eyeglasses) -> Floats:
    """The lens edge (K, 2) about its own centre: x grows away from the nose, y up. Point 0 is outermost."""
    angle = 2 * np.pi * np.arange(NUM_AROUND) / NUM_AROUND
    c, s = np.cos(angle), np.sin(angle)
    x, y = (signed_power(axis, 2 / RIMS[glasses.rim]) for axis in (c, s))
    if glasses.rim == "cat-eye":
        flick = np.clip(x, 0, None) ** 2 * smoothstep(y, -0.6, 0.9)
        x, y = x + 0.16 * flick - 0.10 * np.clip(-y, 0, None) * x, y + 0.45 * flick
    elif glasses.rim == "aviator":
        x = x * (1 - 0.22 * np.clip(-y, 0, None)) + 0.12 * np.clip(-y, 0, None)
        y = y - 0.14 * np.clip(-y, 0, None) * np.clip(x, 0, None)
    elif glasses.rim == "browline":
        x = x * (1 - 0.14 * np.clip(-y, 0, None))
    else:
        x = x * (1 - 0.05 * np.clip(-y, 0, None))
    return np.stack([x * glasses.lens_width / 2, y * glasses.lens_height / 2], axis=1)


def _placed(glasses: Eyeglasses, side: float, x: Floats, y: Floats, z: Floats | float = 0.0) -> Floats:
    """Points of a lens's plane in the world: curved back by the wrap, tilted, set beside the bridge."""
    wrap, tilt = np.radians(glasses.wrap_deg), np.radians(glasses.tilt_deg)
    centre = glasses.bridge_width / 2 + glasses.lens_width / 2 + glasses.rim_width
    out = np.asarray(x, np.float64) + glasses.lens_width / 2
    bulge = -((np.asarray(x) ** 2 + np.asarray(y) ** 2) / 0.18)
    depth = np.asarray(z) + bulge - out * np.sin(wrap)
    across = centre - glasses.lens_width / 2 + out * np.cos(wrap)
    height = np.asarray(y) * np.cos(tilt)
    depth = depth + np.asarray(y) * np.sin(tilt)
    return np.stack([side * across, height, np.broadcast_to(depth, across.shape)], axis=-1)


def _rim(glasses: Eyeglasses, side: float) -> Solid:
    edge = outline(glasses)
    path = _placed(glasses, side, edge[:, 0], edge[:, 1])
    width = np.full(NUM_AROUND, glasses.rim_width)
    upper = smoothstep(edge[:, 1] / (glasses.lens_height / 2), -0.1, 0.5)
    tint = np.broadcast_to(np.asarray(COLOURS[glasses.colour]), (NUM_AROUND, 12, 3)).copy()
    if glasses.rim == "browline":
        width = 0.0013 + upper * (glasses.rim_width * 0.5 + 0.0026)
        tint[upper < 0.3] = shade(COLOURS["grey"], 1.35)
    elif glasses.rim == "cat-eye":
        width = width * (1 + 0.5 * upper)
    sizes = np.stack([width, np.full(NUM_AROUND, glasses.rim_depth)], axis=1)
    forward = np.broadcast_to([0.0, 0.0, 1.0], path.shape)
    boxy = 2.2 if glasses.material == "metal" else 4.0
    rings = section_rings(path, forward, sizes, exponent=boxy, num_points=12, closed=True)
    return hoop(rings, tint)


def _lens(glasses: Eyeglasses, side: float) -> Solid:
    """A thin curved disc, darker above for tinted lenses, capped by strips between facing edge points."""
    edge = outline(glasses)
    tint = np.asarray(LENSES[glasses.lens])
    rings, colours = [], []
    for z in (-0.0007, 0.0007):
        for grown in (0.25, 0.5, 0.75, 1.0) if z < 0 else (1.0, 0.75, 0.5, 0.25):
            x, y = edge[:, 0] * grown, edge[:, 1] * grown
            rings.append(_placed(glasses, side, x, y, z))
            fade = 1.12 - 0.22 * (y / glasses.lens_height + 0.5)
            colours.append(tint * fade[:, None])
    return loft(np.stack(rings), np.stack(colours))


def _bridge(glasses: Eyeglasses, colour: Rgb) -> Solid:
    """An arch between the rims' inner edges."""
    reach = glasses.bridge_width / 2 + glasses.rim_width + 0.002
    turn = np.linspace(-1, 1, 20)
    height = glasses.lens_height * (0.26 if glasses.high_bridge else 0.08)
    arch = 0.004 + 0.10 * glasses.bridge_width
    path = np.stack([turn * reach, height + arch * (1 - turn**2), 0.003 * (1 - turn**2)], axis=1)
    path[:, 2] += height * np.sin(np.radians(glasses.tilt_deg)) - 0.0015
    thick = np.array([[max(glasses.rim_width * 0.9, 0.0014), max(glasses.rim_depth, 0.0014)]])
    forward = np.broadcast_to([0.0, 0.0, 1.0], path.shape)
    rings = section_rings(path, forward, thick, exponent=3, num_points=12, closed=False)
    return loft(rings, colour)


def _brow_bar(glasses: Eyeglasses, colour: Rgb) -> Solid:
    """The aviator's second bridge, along the tops of the rims."""
    reach = glasses.bridge_width / 2 + glasses.lens_width * 0.36
    turn = np.linspace(-1, 1, 24)
    height = glasses.lens_height * 0.47
    path = np.stack([turn * reach, height + 0.0015 * (1 - turn**2), 0.001 - 0.004 * np.abs(turn)], axis=1)
    path[:, 2] += height * np.sin(np.radians(glasses.tilt_deg))
    forward = np.broadcast_to([0.0, 0.0, 1.0], path.shape)
    rings = section_rings(path, forward, np.array([[0.0014, 0.0014]]), exponent=2, num_points=8, closed=False)
    return loft(rings, colour)


def _temple(glasses: Eyeglasses, side: float) -> Solid:
    """From the rim's outer edge over the end piece, back to the ear and down behind it."""
    edge = outline(glasses)
    height = (glasses.temple_height - 0.35) * glasses.lens_height / 2
    attach = edge[np.argmin(np.abs(edge[:, 1] - height) - edge[:, 0])]
    hinge = _placed(glasses, side, attach[0], attach[1])
    outer = np.array([side * (0.004 + glasses.rim_width), 0.0, -0.003])
    along = np.linspace(0, 1, 26)
    length = glasses.temple_length
    bend = smoothstep(along, 0.68, 1.0) * np.clip((along - 0.68) / 0.32, 0, None)
    back = np.stack(
        [
            side * (glasses.splay * length * along - 0.010 * np.clip(along - 0.6, 0, None)),
            -glasses.ear_drop * bend - 0.002 * along,
            -length * along * (1 - 0.08 * bend),
        ],
        axis=1,
    )
    start = hinge - np.array([side * 0.0005, 0.0, 0.0])
    path = np.concatenate([[start, start + outer * [0.6, 1, 0.25]], hinge + outer + back])
    progress = np.concatenate([[0.0, 0.0], along])
    taper = 1.25 - 0.45 * smoothstep(progress, 0.0, 0.6) + 0.4 * smoothstep(progress, 0.75, 1)
    tall = max(glasses.rim_width, 0.0012) * taper
    sizes = np.stack([tall, np.full(len(path), max(0.55 * glasses.rim_depth, 0.0011))], axis=1)
    outward = np.broadcast_to([side, 0.0, 0.0], path.shape).copy()
    outward[:2] = unit(np.array([[0.15 * side, 0.0, 1.0], [0.7 * side, 0.0, 0.7]]))
    rings = section_rings(path, outward, sizes, exponent=3.5, num_points=12, closed=False)
    tip = (progress > 0.8) & (glasses.material == "metal")
    tint = np.broadcast_to(np.asarray(COLOURS[glasses.temple_colour]), rings.shape).copy()
    tint[tip] = COLOURS["black"]
    return loft(rings, tint)

"""Parametric objects: a seed gives parameters, parameters give a mesh with vertex colours and labels.

make("shoe", seed=7).labels["style"]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from models.geometry import Mesh

Kind = Literal["shoe", "eyeglasses"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Shape:
    """mesh: metres, Y up, the front towards +Z. labels: style, material, colour, size and more."""

    mesh: Mesh
    labels: dict[str, str]


def make(kind: Kind, seed: int) -> Shape:
    """The shape of this kind and seed; equal arguments, equal shapes. ValueError for an unknown kind."""
    from models.shapes import eyeglasses, shoe, solids

    if kind == "shoe":
        drawn_shoe = shoe.design(seed)
        return Shape(solids.to_mesh(shoe.build(drawn_shoe)), drawn_shoe.labels)
    if kind == "eyeglasses":
        drawn_glasses = eyeglasses.design(seed)
        return Shape(solids.to_mesh(eyeglasses.build(drawn_glasses)), drawn_glasses.labels)
    raise ValueError(f"unknown shape {kind!r}; there are: {', '.join(KINDS)}")

"""Parametric shoes: a last (the foot's form), a sole, an upper or straps, and a heel.

Toe towards +Z (the front), Y up, metres. `design(seed)` draws a shoe's parameters, `build(shoe)` makes its
solids. The style decides most ranges; toe, heel, shaft, width and colours vary within it, so that silhouettes
differ clearly from front, left, back and right.
"""

from __future__ import annotations

from models.shapes.shoe.design import Shoe, design
from models.shapes.shoe.last import Last
from models.shapes.shoe.parts import laces, saddle, sole, straps
from models.shapes.shoe.upper import Upper
from models.shapes.solids import Solid

__all__ = ["Shoe", "build", "design"]


def build(shoe: Shoe) -> list[Solid]:
    """The watertight solids of the shoe; they overlap where they are joined."""
    last = Last(shoe)
    if shoe.style == "sandal":
        return sole(shoe, last) + straps(shoe, last)
    upper = Upper(shoe, last)
    solids = [*sole(shoe, last), upper.solid()]
    if shoe.style in ("sneaker", "high-top") or (shoe.style == "boot" and shoe.decor != "plain"):
        solids += laces(shoe, upper)
    if shoe.style == "loafer":
        solids.append(saddle(shoe, upper))
    return solids

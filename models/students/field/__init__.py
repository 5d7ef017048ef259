"""A field of signed distances, guessed whole in closed form and corrected at every point by what the views show there.

Any topology, with colours. The first guess comes from a linear space of the training items' fields; a small network
corrects it from pixel-aligned evidence, as in PIFu (Saito et al. 2019): each point of space looks up silhouettes,
tokens and colours where the views' cameras see it. Known cameras are used where there are any, else those that the
views' names stand for; a single photo of an unknown side is read as a whole. Any of the views suffice.

    forms = {"tokens": FeatureSpec("dct", 384, (16, 16), ("front", "left", "back", "right")).to_json(),
             "views": {"size_px": 128}, "field": {"resolution": 64, "truncation": 0.103125}}
    student = create(Params(preset="tiny"), Spec(forms), seed=0)
    student.predict(InHand("shoe", {TOKENS: grids, VIEWS: views}, (TOKENS, VIEWS)), Ask()).to_glb()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from models.needs import FIELD, TOKENS, TRUTH, VIEWS, Needs
from models.params import Block
from models.students import Spec

if TYPE_CHECKING:
    from models.students.field.student import FieldStudent


class Params(Block):
    """Size of the network, what it learns from and what it is shown."""

    USE_ONLY: ClassVar[frozenset[str]] = frozenset({"max_points"})

    preset: Literal["tiny", "base", "reference"] = "tiny"
    """tiny trains in two minutes on one core; base and reference are for a GPU."""
    teacher: bool = True
    """Whether items without truth are learned from the teacher's shape. If not, they are left out."""
    view_dropout: float = Field(0.3, ge=0, le=1)
    """How often an item is shown with a random part of its views, so that one photo suffices later."""
    unknown_side: float = Field(0.1, ge=0, le=1)
    """How often it is shown by a single view of an unknown side."""
    unknown_cameras: float = Field(0.15, ge=0, le=1)
    """How often it is shown as photos are: through the cameras that the views' names stand for."""
    near_points: int = Field(512, ge=16)
    """Points asked for at the surface, where colours are learned, at every step and of every item."""
    band_points: int = Field(384, ge=16)
    """And in the band around it."""
    far_points: int = Field(128, ge=0)
    """And anywhere."""
    colour_weight: float = Field(0.02, ge=0)
    """Of the mean difference of colours (0 to 1), against that of distances."""
    max_points: int = Field(16_000, ge=1_000)
    """Of predictions: what one lattice may ask for. More give finer meshes, and take longer."""


@dataclass(frozen=True)
class Size:
    """width: of the correction's hidden layers; blocks: their number. tokens: width of the token encoder; kept:
    channels of it that points look up. rank, capacity: modes and items of the shape space."""

    width: int
    blocks: int
    tokens: int
    kept: int
    rank: int
    capacity: int


SIZES = {
    "tiny": Size(width=64, blocks=2, tokens=48, kept=16, rank=64, capacity=128),
    "base": Size(width=192, blocks=4, tokens=128, kept=32, rank=96, capacity=192),
    "reference": Size(width=512, blocks=6, tokens=384, kept=64, rank=128, capacity=256),
}
"""Trained parameters on four views of DINOv2-base (768 channels): 94,585, 585,129 and 4,551,497."""


def needs(params: Params) -> Needs:
    """Tokens and matted views, with cameras or without; to learn from, the field of the truth or of the teacher."""
    return Needs(given=(TOKENS, VIEWS), learned=(FIELD,) if params.teacher else (FIELD, TRUTH))


def create(params: Params, spec: Spec, *, seed: int) -> FieldStudent:
    """The student with seeded initial weights, on CPU."""
    from models.students.field.student import FieldStudent

    return FieldStudent(params, spec, seed=seed)

"""A sphere deformed coarse to fine, 162 -> 642 -> 2,562 vertices, by what 1 to V named views show.

After Pixel2Mesh (Wang et al. 2018), without cameras: vertices find their evidence by attention over all views' tokens
instead of by projection, so that photos of unknown cameras serve as well as renders.

    form = FeatureSpec("dct", 384, (16, 16), ("front", "left", "back", "right")).to_json()
    student = create(Params(preset="tiny"), Spec({"tokens": form}), seed=0)
    student.predict(InHand("shoe", {TOKENS: grids}, (TOKENS,)), Ask()).to_glb()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from models.needs import TEACHER, TOKENS, TRUTH, Needs
from models.params import Block
from models.students import Spec

if TYPE_CHECKING:
    from models.students.mesh_deform.student import MeshDeform

ALPHA_PRESETS = {"balanced": (0.9, 0.3), "conservative": (0.95, 0.5), "aggressive": (0.8, 0.2), "none": (0.0, 0.0)}


class Params(Block):
    """Size of the network, what it learns from and weights of the regularisers."""

    preset: Literal["tiny", "small", "base", "reference"] = "tiny"
    """tiny trains in minutes on a CPU; reference, with DINOv2-base before it, has 119.9 million parameters."""
    alpha: Literal["balanced", "conservative", "aggressive", "none"] = "balanced"
    """The teacher's share of the loss, start -> end: balanced .9 -> .3, conservative .95 -> .5, aggressive .8 -> .2,
    none: the truth alone, and only items that have one. Without truth an item learns from the teacher alone."""
    alpha_start: float | None = Field(None, ge=0, le=1)
    """Overrides the preset's start."""
    alpha_end: float | None = Field(None, ge=0, le=1)
    """Overrides the preset's end."""
    num_points: int = Field(2_000, ge=16)
    """Points sampled on the student and on each target at every step."""
    view_dropout: float = Field(0.3, ge=0, le=1)
    """How often an item is shown with a random part of its views, so that one photo suffices later."""
    validation_points: int = Field(10_000, ge=16, le=20_000)
    """Fixed points on either side of the validation Chamfer."""
    edge_weight: float = Field(0.5, ge=0)
    """Of the mean squared edge length: keeps triangles even."""
    laplacian_weight: float = Field(0.05, ge=0)
    """Of the uniform Laplacian's length: keeps the surface smooth."""
    normal_weight: float = Field(0.01, ge=0)
    """Of 1 - cosine between neighbouring faces: keeps the surface flat where nothing speaks against it."""

    @model_validator(mode="after")
    def _check(self) -> Params:
        if self.alpha == "none" and (self.alpha_start or self.alpha_end):
            raise ValueError("alpha is none: alpha_start and alpha_end must not give the teacher a share")
        return self

    @property
    def has_teacher(self) -> bool:
        """Whether the teacher has a share in the loss."""
        return self.alpha != "none"

    def alpha_at(self, progress: float) -> float:
        """The teacher's share at progress 0..1: end + (start - end)(1 - progress)."""
        start, end = ALPHA_PRESETS[self.alpha]
        start = start if self.alpha_start is None else self.alpha_start
        end = end if self.alpha_end is None else self.alpha_end
        return end + (start - end) * (1 - progress)


@dataclass(frozen=True)
class Size:
    """width: of tokens and vertex features. code: of the global code. pooled: side of the token grid that is kept.
    token_blocks, vertex_blocks: residual blocks of the encoder and of each level. heads: of the vertices' attention.
    rank: modes of the shape space."""

    width: int
    code: int
    pooled: int
    token_blocks: int
    vertex_blocks: int
    heads: int
    rank: int


SIZES = {
    "tiny": Size(width=48, code=192, pooled=8, token_blocks=1, vertex_blocks=1, heads=4, rank=48),
    "small": Size(width=128, code=384, pooled=8, token_blocks=2, vertex_blocks=2, heads=4, rank=96),
    "base": Size(width=256, code=768, pooled=16, token_blocks=3, vertex_blocks=3, heads=8, rank=128),
    "reference": Size(width=448, code=1024, pooled=16, token_blocks=2, vertex_blocks=3, heads=8, rank=256),
}
"""Trained parameters on four views of DINOv2-base (768 channels): 673,187, 3,052,931, 15,433,635 and 33,346,275. With
the frozen encoder's 86,580,480 the reference comes to 119,926,755; the student that it follows has 118,811,001."""


def needs(params: Params) -> Needs:
    """Tokens of any views; the teacher's mesh and, of the items that have one, the true mesh."""
    if params.has_teacher:
        return Needs(given=(TOKENS,), learned=(TEACHER,), if_there=(TRUTH,))
    return Needs(given=(TOKENS,), learned=(TRUTH,))


def create(params: Params, spec: Spec, *, seed: int) -> MeshDeform:
    """The student with seeded initial weights, on CPU."""
    from models.students.mesh_deform.student import MeshDeform

    return MeshDeform(params, spec, seed=seed)

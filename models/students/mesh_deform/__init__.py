"""A sphere deformed coarse to fine, 162 -> 642 -> 2,562 vertices, by what 1 to V named views show.

After Pixel2Mesh (Wang et al. 2018), without cameras: vertices find their evidence by attention over all views' tokens
instead of by projection, so that photos of unknown cameras serve as well as renders.

    spec = FeatureSpec("dct", 384, (16, 16), ("front", "left", "back", "right"))
    student = create(Params(preset="tiny"), spec, seed=0)
    student.predict(tokens_BVHWC)[0].to_glb()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from models.params import Block
from models.students import FeatureSpec

if TYPE_CHECKING:
    from models.students.mesh_deform.network import MeshDeform


class Params(Block):
    """Size of the network and weights of the regularisers."""

    preset: Literal["tiny", "small", "base", "reference"] = "tiny"
    """tiny trains in minutes on a CPU; reference, with DINOv2-base before it, has 118.9 million parameters."""
    edge_weight: float = Field(0.5, ge=0)
    """Of the mean squared edge length: keeps triangles even."""
    laplacian_weight: float = Field(0.05, ge=0)
    """Of the uniform Laplacian's length: keeps the surface smooth."""
    normal_weight: float = Field(0.01, ge=0)
    """Of 1 - cosine between neighbouring faces: keeps the surface flat where nothing speaks against it."""


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
"""Trained parameters on four views of DINOv2-base (768 channels): 660,992, 2,969,216, 15,102,368 and 32,336,480. With
the frozen encoder's 86,580,480 the reference comes to 118,916,960; the student that it follows has 118,811,001."""


def create(params: Params, spec: FeatureSpec, *, seed: int) -> MeshDeform:
    """The student with seeded initial weights, on CPU."""
    from models.students.mesh_deform.network import MeshDeform

    return MeshDeform(params, spec, seed=seed)

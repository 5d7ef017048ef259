"""What the views say of points in space: each looks up silhouettes, tokens and colours where the cameras see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from models.fields import HALF_SIDE

RANGE = 0.1
"""Distances are clipped to this, in world units."""
NEAR = 1e-2
"""The least depth: what lies behind a camera counts as being close to it."""


@dataclass(frozen=True)
class Seen:
    """What is seen of B items in V views, with a place for every view that the student knows.

    tokens_BVHWC: float32. present_BV: whether there is such a view. placed_BV: whether it is known where its camera
    stands, too. silhouettes_BVSS: signed distance to the silhouette's edge, positive inside, in half images.
    rgb_BV3SS: uint8. projections_BV34: see `placing.projection`.
    """

    tokens_BVHWC: torch.Tensor
    present_BV: torch.Tensor
    placed_BV: torch.Tensor
    silhouettes_BVSS: torch.Tensor
    rgb_BV3SS: torch.Tensor
    projections_BV34: torch.Tensor

    @staticmethod
    def of(batch: Mapping[str, torch.Tensor]) -> Seen:
        """That of a batch of examples."""
        return Seen(
            batch["tokens"].float(),
            batch["present"],
            batch["placed"] & batch["present"],
            batch["silhouettes"],
            batch["rgb"],
            batch["projections"],
        )


@dataclass(frozen=True)
class Sight:
    """P points of each item in the views: image_BVP2 from -1 to 1, depth_BVP, and distance_BVP to the cone of the
    silhouette, negative inside, in world units, clipped; 0 for views that are not placed."""

    image_BVP2: torch.Tensor
    depth_BVP: torch.Tensor
    distance_BVP: torch.Tensor
    placed_BV: torch.Tensor

    def hull(self) -> torch.Tensor:
        """Distance (B, P) to what all silhouettes share, negative inside. Without any view, everything is inside."""
        return self.distance_BVP.masked_fill(~self.placed_BV[..., None], -RANGE).amax(1)


def look(seen: Seen, points_BP3: torch.Tensor) -> Sight:
    """Where the points are seen, and how far from the silhouettes' edges."""
    turned_BVP3 = torch.einsum("bvij,bpj->bvpi", seen.projections_BV34[..., :3], points_BP3)
    turned_BVP3 = turned_BVP3 + seen.projections_BV34[:, :, None, :, 3]
    depth_BVP = turned_BVP3[..., 2].clamp(min=NEAR)
    image_BVP2 = turned_BVP3[..., :2] / depth_BVP[..., None]
    edge_BVP = sample_images(seen.silhouettes_BVSS[:, :, None].float(), image_BVP2)[:, :, 0]
    world_BVP = -(edge_BVP * depth_BVP / _focal(seen.projections_BV34)[..., None]).clamp(-RANGE, RANGE)
    placed_BV = seen.placed_BV
    return Sight(image_BVP2, depth_BVP, world_BVP * placed_BV[..., None], placed_BV)


def sample_images(images_BVCHW: torch.Tensor, image_BVP2: torch.Tensor) -> torch.Tensor:
    """Values (B, V, C, P) of the images at the points, bilinear, those of the border beyond it."""
    shape = images_BVCHW.shape[:3]
    sampled = functional.grid_sample(
        images_BVCHW.flatten(0, 1), image_BVP2.flatten(0, 1)[:, None], align_corners=False, padding_mode="border"
    )
    return sampled.reshape(*shape, -1)


def sample_volume(volume_BRRR: torch.Tensor, points_BP3: torch.Tensor) -> torch.Tensor:
    """Values (B, P) of a volume on the cells of the cube of fields, x slowest, trilinear."""
    grid = (points_BP3 / HALF_SIDE).flip(-1)[:, None, None]
    sampled = functional.grid_sample(volume_BRRR[:, None], grid, align_corners=False, padding_mode="border")
    return sampled[:, 0, 0, 0]


def _focal(projections_BV34: torch.Tensor) -> torch.Tensor:
    """Focal lengths (B, V) in half images: what is left of a row of the projection beside its part along the axis."""
    row, axis = projections_BV34[..., 0, :3], projections_BV34[..., 2, :3]
    along = (row * axis).sum(-1)
    return (row.square().sum(-1) - along.square()).clamp(min=1e-6).sqrt()

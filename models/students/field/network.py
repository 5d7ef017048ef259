"""The network of `field`: a first guess of the whole field, corrected at every point by what the views show there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from models.students import FeatureSpec
from models.students.field import Size
from models.students.field.evidence import RANGE, Seen, Sight, look, sample_images, sample_volume
from models.students.field.shape_space import ShapeSpace

STEP = 0.05
"""What one unit of the correction is worth, in world units."""


@dataclass(frozen=True)
class Reading:
    """What is known of B items before any point is asked for.

    guess_BRRR: the field read in closed form. familiar_B: how close the closest training item looks. grids_BVKHW:
    encoded tokens, zero for views that are not there. code_BW: a summary of all views.
    """

    seen: Seen
    guess_BRRR: torch.Tensor
    familiar_B: torch.Tensor
    grids_BVKHW: torch.Tensor
    code_BW: torch.Tensor


class Network(nn.Module):
    """(seen, fold_B, points_BP3) -> distances (B, P), negative inside, and colours (B, P, 3), 0 to 1."""

    mean_C: torch.Tensor
    scale: torch.Tensor

    def __init__(self, size: Size, spec: FeatureSpec) -> None:
        super().__init__()
        num_views = len(spec.views)
        self.space = ShapeSpace(spec, rank=size.rank, capacity=size.capacity)
        self.register_buffer("mean_C", torch.zeros(spec.channels))
        self.register_buffer("scale", torch.ones(()))
        self.project = nn.Linear(spec.channels, size.tokens)
        self.mix = nn.Conv2d(size.tokens, size.tokens, 3, padding=1)
        self.keep = nn.Conv2d(size.tokens, size.kept, 3, padding=1)
        self.code = nn.Linear(num_views * size.tokens, size.width)
        self.lone_code = nn.Linear(size.tokens, size.width)
        self.enter = nn.Linear(num_views * (size.kept + 4) + 6, size.width)
        self.blocks = nn.ModuleList(nn.Linear(size.width, size.width) for _ in range(size.blocks))
        self.correction = _zeroed(nn.Linear(size.width, 1))
        self.choice = _zeroed(nn.Linear(size.width, num_views + 1))
        self.own_colour = nn.Linear(size.width, 3)

    def forward(self, seen: Seen, fold_B: torch.Tensor, points_BP3: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        reading = self.read(seen, fold_B)
        hidden_BPW, distance_BP, sight = self.at(reading, points_BP3)
        return distance_BP, self.colours(reading, hidden_BPW, sight)

    @torch.no_grad()
    def standardise(self, seen: Seen) -> None:
        """Take the tokens' mean, and one scale for all channels: the widest one's deviation. The channels' own scales
        say what matters: brought to one deviation each, they read worse."""
        tokens_XC = seen.tokens_BVHWC[seen.present_BV].flatten(0, -2)
        self.mean_C.copy_(tokens_XC.mean(0))
        self.scale.copy_(tokens_XC.std(0, correction=0).max().clamp(min=1e-6))

    def read(self, seen: Seen, fold_B: torch.Tensor) -> Reading:
        """What all points of an item share."""
        with torch.autocast(seen.tokens_BVHWC.device.type, enabled=False):
            guess_BRRR, familiar_B = self.space(seen, fold_B)
        num_views = seen.present_BV.shape[1]
        standard = (seen.tokens_BVHWC - self.mean_C) / self.scale
        grid = functional.gelu(self.project(standard)).flatten(0, 1).permute(0, 3, 1, 2)
        grid = grid + functional.gelu(self.mix(grid))
        present_BV1 = seen.present_BV[..., None].to(grid.dtype)
        kept_BVKHW = _by_view(self.keep(grid), num_views) * present_BV1[..., None, None]
        summary_BVD = _by_view(grid.mean((2, 3)), num_views) * present_BV1
        placed_B1 = seen.placed_BV.any(1, keepdim=True)
        code_BW = torch.where(placed_B1, self.code(summary_BVD.flatten(1)), self.lone_code(summary_BVD.sum(1)))
        return Reading(seen, guess_BRRR, familiar_B, kept_BVKHW, code_BW)

    def at(self, reading: Reading, points_BP3: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Sight]:
        """Hidden features (B, P, W) of points, their distances (B, P), and where the views see them."""
        sight = look(reading.seen, points_BP3)
        guess_BP = sample_volume(reading.guess_BRRR, points_BP3)
        evidence_BPX = self._evidence(reading, points_BP3, sight, guess_BP)
        hidden_BPW = functional.relu(self.enter(evidence_BPX) + reading.code_BW[:, None])
        for block in self.blocks:
            hidden_BPW = hidden_BPW + functional.relu(block(hidden_BPW))
        return hidden_BPW, guess_BP + STEP * self.correction(hidden_BPW)[..., 0].float(), sight

    def colours(self, reading: Reading, hidden_BPW: torch.Tensor, sight: Sight) -> torch.Tensor:
        """Colours (B, P, 3): a mixture of what the views show at the points and of a colour of the network's own."""
        shown_BV3P = sample_images(reading.seen.rgb_BV3SS.float() / 255, sight.image_BVP2)
        own_B13P = torch.sigmoid(self.own_colour(hidden_BPW)).transpose(1, 2)[:, None]
        choice_BPU = self.choice(hidden_BPW).float()
        hidden_B1V = ~sight.placed_BV[:, None]
        seen_BPV = choice_BPU[..., :-1].masked_fill(hidden_B1V, float("-inf"))
        share_BPU = torch.softmax(torch.cat([seen_BPV, choice_BPU[..., -1:]], dim=-1), dim=-1)
        return torch.einsum("bpu,bucp->bpc", share_BPU, torch.cat([shown_BV3P, own_B13P.float()], dim=1))

    def _evidence(
        self, reading: Reading, points_BP3: torch.Tensor, sight: Sight, guess_BP: torch.Tensor
    ) -> torch.Tensor:
        """What the network is told of each point, in numbers of about unit size."""
        placed_BV1 = sight.placed_BV[..., None]
        looked_up = sample_images(reading.grids_BVKHW.float(), sight.image_BVP2) * placed_BV1[..., None]
        of_views = torch.stack(
            [
                sight.distance_BVP / (0.6 * RANGE),
                torch.tanh(sight.distance_BVP / (0.15 * RANGE)),
                (sight.depth_BVP - _depth_of_centre(reading.seen)) * 2 * placed_BV1,
                placed_BV1.expand_as(sight.depth_BVP).float(),
            ],
            dim=2,
        )
        per_view_BPX = torch.cat([of_views, looked_up], dim=2).permute(0, 3, 1, 2).flatten(2)
        of_items = torch.stack([guess_BP / (0.6 * RANGE), sight.hull() / (0.6 * RANGE)], dim=-1)
        familiar_BP1 = reading.familiar_B[:, None, None].expand(-1, points_BP3.shape[1], 1)
        return torch.cat([per_view_BPX, of_items, familiar_BP1, points_BP3 * 2], dim=-1)


def _by_view(values_X: torch.Tensor, num_views: int) -> torch.Tensor:
    """Rows of items and views, (B V, ...) as (B, V, ...)."""
    return values_X.reshape(-1, num_views, *values_X.shape[1:])


def _depth_of_centre(seen: Seen) -> torch.Tensor:
    """Depth (B, V, 1) of the object's centre."""
    return seen.projections_BV34[..., 2, 3:]


def _zeroed(linear: nn.Linear) -> nn.Linear:
    """Starts at zero, so that the first prediction is the guess."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear

"""What a student learns from: feature grids beside points on the teacher's and the true surface, whole in memory."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from models.training.sampler import Stream, uniforms


@dataclass(frozen=True)
class ShapeSet:
    """N items with V named views, resident on one device.

    tokens_NVHWC: float16 grids, zero where a view is missing. present_NV: which views an item has, at least one.
    teacher_NP3, truth_NP3: float32 points, in random order, area-uniform on either surface; where `has_truth_N` is
    False the truth's points are ignored (any finite ones).
    """

    tokens_NVHWC: torch.Tensor
    present_NV: torch.Tensor
    teacher_NP3: torch.Tensor
    truth_NP3: torch.Tensor
    has_truth_N: torch.Tensor

    def __len__(self) -> int:
        return len(self.tokens_NVHWC)

    def to(self, device: torch.device) -> ShapeSet:
        return ShapeSet(*(getattr(self, field.name).to(device) for field in fields(self)))

    def select(self, index_B: torch.Tensor) -> ShapeSet:
        return ShapeSet(*(getattr(self, field.name)[index_B] for field in fields(self)))


@dataclass(frozen=True)
class Batch:
    """B items of one training step, and the random numbers that belong to them.

    tokens_BVHWC: float32. teacher_BP3, truth_BP3: as many points as the student is to sample.
    """

    item_B: torch.Tensor
    tokens_BVHWC: torch.Tensor
    present_BV: torch.Tensor
    teacher_BP3: torch.Tensor
    truth_BP3: torch.Tensor
    has_truth_B: torch.Tensor
    seed: int
    epoch: int

    def uniforms(self, shape: tuple[int, ...], stream: Stream) -> torch.Tensor:
        """(B, *shape) numbers in [0, 1), the same for an item whatever batch or process it is in."""
        return uniforms(self.item_B, shape, seed=self.seed, epoch=self.epoch, stream=stream)


def draw_batch(
    shapes: ShapeSet, item_B: torch.Tensor, *, seed: int, epoch: int, num_points: int, view_dropout: float
) -> Batch:
    """The items `item_B` (int64, on the shapes' device) as this epoch shows them: other points, some views dropped."""
    chosen = shapes.select(item_B)
    num_stored = chosen.teacher_NP3.shape[1]
    place_BP2 = uniforms(item_B, (num_points, 2), seed=seed, epoch=epoch, stream=Stream.SUBSET)
    index_BP2 = (place_BP2 * num_stored).long().clamp(max=num_stored - 1)
    present_BV = drop_views(
        chosen.present_NV,
        uniforms(item_B, (1 + chosen.present_NV.shape[1],), seed=seed, epoch=epoch, stream=Stream.VIEWS),
        view_dropout,
    )
    return Batch(
        item_B=item_B,
        tokens_BVHWC=chosen.tokens_NVHWC.float(),
        present_BV=present_BV,
        teacher_BP3=_pick(chosen.teacher_NP3, index_BP2[..., 0]),
        truth_BP3=_pick(chosen.truth_NP3, index_BP2[..., 1]),
        has_truth_B=chosen.has_truth_N,
        seed=seed,
        epoch=epoch,
    )


def drop_views(present_BV: torch.Tensor, uniforms_BW: torch.Tensor, rate: float) -> torch.Tensor:
    """Hide views: with probability `rate` an item keeps a random subset of 1..V-1 of its views, else all of them.

    uniforms_BW: V + 1 numbers an item; the first decides whether and how many, the others rank the views.
    """
    num_present_B = present_BV.sum(-1)
    keep_B = (uniforms_BW[:, 0] / max(rate, 1e-9) * (num_present_B - 1)).long() + 1
    rank_BV = torch.where(present_BV, uniforms_BW[:, 1:], 2.0).argsort(-1).argsort(-1)
    kept_BV = present_BV & (rank_BV < keep_B[:, None])
    return torch.where((uniforms_BW[:, 0] < rate)[:, None] & (num_present_B > 1)[:, None], kept_BV, present_BV)


def _pick(points_BM3: torch.Tensor, index_BP: torch.Tensor) -> torch.Tensor:
    return points_BM3.gather(1, index_BP[..., None].expand(-1, -1, 3))

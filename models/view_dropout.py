"""Hiding views in training, so that one photo suffices later."""

from __future__ import annotations

import torch


def drop_views(present_BV: torch.Tensor, uniforms_BW: torch.Tensor, rate: float) -> torch.Tensor:
    """Hide views: with probability `rate` an item keeps a random subset of 1..V-1 of its views, else all of them.

    uniforms_BW: V + 1 numbers an item; the first decides whether and how many, the others rank the views.
    """
    num_present_B = present_BV.sum(-1)
    keep_B = (uniforms_BW[:, 0] / max(rate, 1e-9) * (num_present_B - 1)).long() + 1
    rank_BV = torch.where(present_BV, uniforms_BW[:, 1:], 2.0).argsort(-1).argsort(-1)
    kept_BV = present_BV & (rank_BV < keep_B[:, None])
    return torch.where((uniforms_BW[:, 0] < rate)[:, None] & (num_present_B > 1)[:, None], kept_BV, present_BV)

"""Small pieces that the network's parts share."""

from __future__ import annotations

import torch
from torch import nn


def subdivided(x_BND: torch.Tensor, parents_M2: torch.Tensor) -> torch.Tensor:
    """The values of the coarse vertices, then those half-way between their parents."""
    middle = (x_BND.index_select(1, parents_M2[:, 0]) + x_BND.index_select(1, parents_M2[:, 1])) / 2
    return torch.cat([x_BND, middle], dim=1)


def averaging(length: int, cells: int) -> torch.Tensor:
    """A (cells, length) matrix that averages a row of `length` into `cells` cells of equal extent."""
    bounds = torch.linspace(0, length, cells + 1, dtype=torch.float64)
    start, end = bounds[:-1, None], bounds[1:, None]
    place = torch.arange(length, dtype=torch.float64)
    overlap = (torch.minimum(end, place + 1) - torch.maximum(start, place)).clamp(min=0)
    return (overlap / overlap.sum(1, keepdim=True)).float()


def zeroed(linear: nn.Linear) -> nn.Linear:
    """Starts at zero, so that the first prediction is the start shape."""
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear

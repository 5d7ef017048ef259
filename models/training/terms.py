"""The named terms of a loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Term:
    """One term of a loss: `raw` as measured and `weighted` as added to the total; both scalars."""

    raw: torch.Tensor
    weighted: torch.Tensor


Terms = dict[str, Term]


def total(terms: Terms) -> torch.Tensor:
    """The loss: the sum of the weighted terms."""
    return torch.stack([term.weighted for term in terms.values()]).sum()

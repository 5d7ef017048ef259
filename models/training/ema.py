"""An exponential moving average of a network's weights."""

from __future__ import annotations

import torch


class Ema:
    """The average of the parameters; buffers are taken as they are."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.average = {name: value.detach().clone() for name, value in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: torch.nn.Module, decay: float) -> None:
        for name, value in network.named_parameters():
            self.average[name].lerp_(value, 1 - decay)

    def state_dict(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """The network's whole state with averaged parameters."""
        return {**network.state_dict(), **self.average}

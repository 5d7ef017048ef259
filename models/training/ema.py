"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class Ema:
    """The average of some parameters, by name; all else of the network is taken as it is."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = parameters
        self.average = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, decay: float) -> None:
        for name, value in self._parameters.items():
            self.average[name].lerp_(value, 1 - decay)

    def load(self, average: Mapping[str, torch.Tensor]) -> None:
        for name, value in average.items():
            self.average[name].copy_(value)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The network runs on the average inside, and on its own weights again after."""
        own = {name: parameter.data for name, parameter in self._parameters.items()}
        try:
            for name, parameter in self._parameters.items():
                parameter.data = self.average[name]
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = own[name]

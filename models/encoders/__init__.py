"""Encoders turn an image into a grid of tokens, computed once and read by every student.

An encoder plug-in has `Params`, `weights(params, workspace)` (the files whose digests enter the key) and
`create(params, machine)`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Encoder(Protocol):
    """An open image encoder. Class and register tokens are not part of the grid; their number is recorded."""

    @property
    def id(self) -> str:
        """Names the network or basis: two encoders of one id give comparable tokens."""

    @property
    def channels(self) -> int:
        """C, the length of a token."""

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches that were dropped."""

    @property
    def licence(self) -> str | None:
        """The terms of the weights; None where there are none."""

    def encode(self, rgba_BHW4: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Tokens (B, grid height, grid width, C) of square straight-alpha images of any size."""

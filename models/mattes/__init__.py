"""Mattes tell an object from its background in an opaque photo.

A matte plug-in has `Params`, `weights(params, workspace)` (the files whose digests enter the key; a missing one is the
worker's Unavailable) and `create(params, machine)`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Matte(Protocol):
    """An open matting model."""

    @property
    def id(self) -> str:
        """What made the mask, for the record: "rembg:isnet-general-use"."""

    @property
    def licence(self) -> str:
        """The terms of the weights, or that they are unknown."""

    def alpha(self, rgb_HW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The object's opacity (H, W)."""

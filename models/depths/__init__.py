"""Depth maps that go with the tokens: the true depth of rendered views, or a network's guess.

A depth plug-in has `Params`, `weights(params, workspace)`, `create(params, machine)` and `USES_RENDERED`: whether it
reads the depth that was rendered with the views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.crop import Square


@dataclass(frozen=True)
class RenderedDepth:
    """depth_HW: uint16 of the whole view, 0 = background. square: what was cut out of it."""

    depth_HW: npt.NDArray[np.uint16]
    square: Square


class Depth(Protocol):
    """A source of depth maps."""

    @property
    def id(self) -> str:
        """For the record: what the numbers are."""

    @property
    def licence(self) -> str | None:
        """The terms of the weights; None where there are none."""

    def estimate(
        self, rgba_SS4: npt.NDArray[np.uint8], rendered: RenderedDepth | None
    ) -> npt.NDArray[np.uint16] | None:
        """(size, size) of the cropped view, 0 = background; None where this view can have none."""

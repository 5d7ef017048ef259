"""The true depth of rendered views, cut like the colours. Photos have none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.crop import crop_nearest
from models.depths import RenderedDepth
from models.onnx import Machine
from models.params import Block

USES_RENDERED = True


class Params(Block):
    size_px: int = Field(112, ge=8, le=1024)
    """Side of the stored map; 112 px are 25 KB a view."""


def weights(params: Params, workspace: Path) -> Sequence[Path]:
    return ()


def create(params: Params, machine: Machine) -> Rendered:
    return Rendered(params.size_px)


class Rendered:
    id = "rendered"
    licence = None

    def __init__(self, size_px: int) -> None:
        self._size_px = size_px

    def estimate(
        self, rgba_SS4: npt.NDArray[np.uint8], rendered: RenderedDepth | None
    ) -> npt.NDArray[np.uint16] | None:
        """Distances along the optical axis in the view's own unit (`depth_scale`), nearest pixel, never mixed."""
        return None if rendered is None else crop_nearest(rendered.depth_HW, rendered.square, self._size_px)

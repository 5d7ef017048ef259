"""Depth Anything V2 as an ONNX file that `lostwax export-encoder depth_anything` wrote.

    depths:
      depth_anything: {path: weights/depth-anything-v2-small.onnx}

Its relative models know the order of things, not distances: values are inverse depth stretched over the object of each
view on its own, 1 the farthest, 65535 the nearest, 0 background.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models import crop
from models.depths import RenderedDepth
from models.onnx import ExportedModel, Machine, exported_path
from models.params import Block

USES_RENDERED = False
OPAQUE = 128


class Params(Block):
    path: Path | None = Field(None, exclude=True)
    """The exported model, relative to the workspace. Its digest enters the key, its path does not."""
    size_px: int = Field(112, ge=8, le=1024)
    """Side of the stored map."""
    background: int = Field(128, ge=0, le=255)
    """Grey level the object is composited on."""


def weights(params: Params, workspace: Path) -> Sequence[Path]:
    """The exported model, where one is named."""
    return () if params.path is None else (workspace / params.path,)


def create(params: Params, machine: Machine) -> DepthAnything:
    """Open the model. Raises Unavailable where there is none, ValueError for another kind of model."""
    path = exported_path(params.path, "depth_anything", "depths.depth_anything.path", machine)
    return DepthAnything(ExportedModel(path, "depth_anything", machine), params)


class DepthAnything:
    def __init__(self, model: ExportedModel, params: Params) -> None:
        self.id = model.description.id
        self.licence = model.description.licence
        self._model = model
        self._params = params

    def estimate(
        self, rgba_SS4: npt.NDArray[np.uint8], rendered: RenderedDepth | None
    ) -> npt.NDArray[np.uint16] | None:
        """Relative inverse depth (size_px, size_px) from the colours alone."""
        size = self._params.size_px
        inverse_HW = self._model.run(self._model.description.pixels(rgba_SS4[None], self._params.background))[0]
        return stretch(_resize(inverse_HW, size), crop.resize(rgba_SS4, size)[..., 3] >= OPAQUE)


def stretch(values_HW: npt.NDArray[np.float32], inside_HW: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    """Values inside stretched linearly to 1..65535 (all 65535 where they are equal), 0 outside."""
    stretched = np.zeros(values_HW.shape, np.uint16)
    if inside_HW.any():
        inside = values_HW[inside_HW].astype(np.float64)
        low, high = inside.min(), inside.max()
        share = (inside - low) / (high - low) if high > low else np.ones_like(inside)
        stretched[inside_HW] = np.round(1 + share * 65534).astype(np.uint16)
    return stretched


def _resize(values_HW: npt.NDArray[np.float32], size_px: int) -> npt.NDArray[np.float32]:
    from PIL import Image

    return np.asarray(Image.fromarray(values_HW).resize((size_px, size_px), Image.Resampling.BILINEAR))

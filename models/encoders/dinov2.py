"""DINOv2, with or without registers, as an ONNX file that `lostwax export-encoder dinov2` wrote.

encoders:
  dinov2: {path: weights/dinov2-small.onnx}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.onnx import ExportedModel, Machine, exported_path
from models.params import Block


class Params(Block):
    path: Path | None = Field(None, exclude=True)
    """The exported model, relative to the workspace. Its digest enters the key, its path does not."""
    background: int = Field(0, ge=0, le=255)
    """Grey level the object is composited on; 0 is black, as TRELLIS conditions on it."""


def weights(params: Params, workspace: Path) -> Sequence[Path]:
    """The exported model, where one is named."""
    return () if params.path is None else (workspace / params.path,)


def create(params: Params, machine: Machine) -> Dinov2Encoder:
    """Open the model. Raises Unavailable where there is none, ValueError for another kind of model."""
    path = exported_path(params.path, "dinov2", "encoders.dinov2.path", machine)
    return Dinov2Encoder(ExportedModel(path, "dinov2", machine), params.background)


class Dinov2Encoder:
    """Patch tokens of the last layer, after its norm."""

    def __init__(self, model: ExportedModel, background: int) -> None:
        description = model.description
        self.id = description.id
        self.channels = description.channels
        self.num_prefix_tokens = description.num_prefix_tokens
        self.licence = description.licence
        self.grid = description.image_size_px // description.patch_px
        self._model = model
        self._background = background

    def encode(self, rgba_BHW4: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Tokens (B, grid, grid, channels)."""
        tokens_BNC = self._model.run(self._model.description.pixels(rgba_BHW4, self._background))
        patches = tokens_BNC[:, self.num_prefix_tokens :]
        return patches.reshape(-1, self.grid, self.grid, self.channels).astype(np.float16)

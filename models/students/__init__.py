"""Students: small networks that turn an encoder's feature grids into shapes in milliseconds.

A student is one module (or package) here and one block in params.yaml. It has

    class Params(Block): ...
    def create(params: Params, spec: FeatureSpec, *, seed: int) -> Student: ...

The image encoder lies upstream and is frozen: a student sees only its grids, so it is never in the optimiser.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from models.geometry import Mesh

if TYPE_CHECKING:
    import torch

    from models.losses import Terms
    from models.training.data import Batch, ShapeSet


@dataclass(frozen=True)
class FeatureSpec:
    """The grids a student was made for: encoder id, channels, (height, width) and the names of the views, in order."""

    encoder: str
    channels: int
    grid: tuple[int, int]
    views: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "grid": list(self.grid), "views": list(self.views)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> FeatureSpec:
        return FeatureSpec(data["encoder"], data["channels"], tuple(data["grid"]), tuple(data["views"]))

    def arrange(
        self, tokens_BVHWC: npt.NDArray[np.floating[Any]], views: tuple[str, ...]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Grids of any of the views in any order, as (tokens_BVHWC, present_BV) with a place for each view.

        Raises ValueError for views or shapes that the student was not made for.
        """
        unknown = [name for name in views if name not in self.views]
        if unknown or not views or len(set(views)) < len(views):
            raise ValueError(f"views are {list(views)}; the student takes one or more of {list(self.views)}, once each")
        expected = (len(views), *self.grid, self.channels)
        if tokens_BVHWC.shape[1:] != expected:
            raise ValueError(
                f"grids (V, H, W, C) are {tokens_BVHWC.shape[1:]}, the student takes {expected} of {self.encoder}"
            )
        tokens = np.zeros((len(tokens_BVHWC), len(self.views), *self.grid, self.channels), np.float32)
        present = np.zeros(tokens.shape[:2], np.bool_)
        places = [self.views.index(name) for name in views]
        tokens[:, places] = tokens_BVHWC
        present[:, places] = True
        return tokens, present


class Student(Protocol):
    """What the training engine, evaluation and generation need of a student.

    network: maps (tokens_BVHWC float32, present_BV bool) to outputs that only the student understands. V is the place
    of a view's name in `spec.views`; tokens of absent views must not matter. The engine owns its weights.
    """

    spec: FeatureSpec
    network: torch.nn.Module

    def calibrate(self, shapes: ShapeSet) -> None:
        """Set what is measured on the training items, once, before the first step (input statistics, start shape)."""

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """What the network is given in training: tokens and present views first, more where training needs more."""

    def loss(self, outputs: Any, batch: Batch, alpha: float) -> Terms:
        """The named terms of the loss; their weighted sum is minimised. alpha: the teacher's share."""

    def sample(self, outputs: Any, uniforms_BP3: torch.Tensor) -> torch.Tensor:
        """Points (B, P, 3) on the predicted surfaces, area-uniform, decided by the uniforms: for validation."""

    def predict(self, tokens_BVHWC: npt.NDArray[np.floating[Any]], views: tuple[str, ...] | None = None) -> list[Mesh]:
        """A mesh an item, in the canonical frame. views: names along V (default all of the spec's), in any order."""

"""Students: small networks that do in milliseconds what a teacher does in minutes.

A student is one module (or package) here and one block in params.yaml. It has

    class Params(Block): ...
    def needs(params: Params) -> Needs: ...                                  # what it reads: models/needs.py
    def create(params: Params, spec: Spec, *, seed: int) -> Student: ...     # models/student.py; seeded, on CPU

and where it starts from pretrained weights, `weights(params, workspace) -> Sequence[Path]`. Fields of Params that only
prediction reads stand in its `USE_ONLY`: they belong to evaluation's keys and not to training's. A student whose
training runs elsewhere has a `fit(params, spec, training, validation, recipe, job) -> TrainingResult` instead of the
engine's `train` (`models.training.engine`): same examples, same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.needs import Need

if TYPE_CHECKING:
    from models.cameras import Camera

Json = Any


@dataclass(frozen=True)
class Spec:
    """What the training items have in common: the form of each need that the student declares, by the need's name.

    Of tokens that is a `FeatureSpec` as JSON; see the stage that offers a need for the others.
    """

    forms: Mapping[str, Json]

    def __getitem__(self, need: Need[Any]) -> Json:
        """Raises LookupError where no item has it."""
        if need.name not in self.forms:
            raise LookupError(f"no item has {need.what}")
        return self.forms[need.name]

    def get(self, need: Need[Any]) -> Json | None:
        return self.forms.get(need.name)


@dataclass(frozen=True)
class FeatureSpec:
    """The form of tokens: encoder id, channels, (height, width) of a grid and the names of the views, in order."""

    encoder: str
    channels: int
    grid: tuple[int, int]
    views: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "grid": list(self.grid), "views": list(self.views)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FeatureSpec:
        return FeatureSpec(data["encoder"], data["channels"], tuple(data["grid"]), tuple(data["views"]))

    def arrange(
        self, grids: Mapping[str, npt.NDArray[np.float16]]
    ) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
        """Grids by view as (tokens_VHWC, present_V) with a place for each view; zeros where one is absent.

        Raises ValueError for no view of the student's, and for grids of another shape.
        """
        expected = (*self.grid, self.channels)
        tokens = np.zeros((len(self.views), *expected), np.float16)
        present = np.array([name in grids for name in self.views])
        if not present.any():
            raise ValueError(f"views are {', '.join(grids)}; the student takes one or more of {', '.join(self.views)}")
        for number, name in enumerate(self.views):
            if name in grids:
                if grids[name].shape != expected:
                    raise ValueError(
                        f"grids (H, W, C) are {grids[name].shape}; the student takes {expected} of {self.encoder}"
                    )
                tokens[number] = grids[name]
        return tokens, present


@dataclass(frozen=True)
class Ask:
    """What is asked of a prediction beside the item.

    seed: of students that draw. cameras: where a student of views is to look from. options: the student's own
    (guidance, steps, another size than the one seen).
    """

    seed: int = 0
    cameras: tuple[Camera, ...] = ()
    options: Mapping[str, Json] = field(default_factory=dict)

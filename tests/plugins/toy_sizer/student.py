"""Two networks, one of them frozen at first, and an extra average whose disagreement is a term of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from models.metric import Metric
from models.needs import TOKENS, TRUTH, Given, Needs
from models.params import Block
from models.student import Student
from models.students import Ask, FeatureSpec, Spec
from models.training.terms import Term, Terms
from models.training.trainable import Batch, Example, Group, Moment
from toy_sizer.size import Size


class Params(Block):
    """The `students.sizer` block."""

    width: int = 8
    """Of the code between the two networks."""


def needs(params: Params) -> Needs:
    return Needs(given=(TOKENS,), learned=(TRUTH,))


def create(params: Params, spec: Spec, *, seed: int) -> Sizer:
    return Sizer(params, spec, seed)


class Sizer(Student):
    selects = (Metric("size_error", "Size error", digits=3),)
    averages: Mapping[str, float] = {"slow": 0.9}

    def __init__(self, params: Params, spec: Spec, seed: int) -> None:
        self.spec, self._tokens = spec, FeatureSpec.from_json(spec[TOKENS])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = nn.Linear(self._tokens.channels, params.width)
            self.network = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(params.width, 3)})
            self.network["never"] = nn.Linear(2, 2)  # in no group: frozen for good

    def groups(self) -> tuple[Group, ...]:
        head, encoder = (tuple(self.network[name].parameters()) for name in ("head", "encoder"))
        return Group("head", head), Group("encoder", encoder, rate=lambda progress: 0.0 if progress < 0.5 else 0.5)

    def example(self, item: Given) -> Example:
        return {"code": torch.from_numpy(self._code(item)), "size": torch.from_numpy(item(TRUTH).extents)}

    def forward(self, batch: Batch, moment: Moment) -> torch.Tensor:
        sizes: torch.Tensor = self.network["head"](moment.run(self.network["encoder"], batch["code"]).tanh())
        return sizes

    def loss(self, outputs: torch.Tensor, batch: Batch, moment: Moment) -> Terms:
        slow = {name.removeprefix("head."): value for name, value in moment.averages["slow"].items() if "head" in name}
        with torch.no_grad():
            code = self.network["encoder"](batch["code"]).tanh()
            calm = torch.func.functional_call(self.network["head"], slow, code)
        terms = {"size": (outputs - batch["size"]).square().mean(), "calm": (outputs - calm).square().mean()}
        return {name: Term(value, value) for name, value in terms.items()}

    def validate(self, batch: Batch, moment: Moment) -> Mapping[str, torch.Tensor]:
        return {"size_error": (self.forward(batch, moment) - batch["size"]).abs().mean(-1)}

    def predict(self, item: Given, ask: Ask) -> Size:
        with torch.inference_mode():
            sizes = self.network["head"](self.network["encoder"](torch.from_numpy(self._code(item))).tanh())
        return Size(tuple(float(side) for side in sizes))

    def _code(self, item: Given) -> Any:
        """The mean token over the views that are there."""
        return np.mean([grid.astype(np.float32).mean((0, 1)) for grid in item(TOKENS).values()], axis=0)

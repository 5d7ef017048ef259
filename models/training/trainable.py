"""What the training engine asks of a student. It knows no student, loss, metric or kind of cast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from models.metric import Metric
from models.needs import Given
from models.training.sampler import normals, uniforms, uniforms_at
from models.training.terms import Terms

Example = Mapping[str, torch.Tensor]
"""What is learned from one item: tensors by name, on CPU, without a batch dimension."""
Batch = dict[str, torch.Tensor]
"""Examples of B items, collated, on the training's device."""
State = Mapping[str, torch.Tensor]


def _always(progress: float) -> float:
    return 1.0


@dataclass(frozen=True)
class Group:
    """Parameters of `network` that are trained alike.

    rate: factor of the scheduled learning rate, a function of the training's progress 0..1; at 0 the group is frozen
    then: no gradient, no decay. weight_decay: None is the recipe's on matrices and none elsewhere. clip_norm: of this
    group alone; None clips it together with all others that say none, at the recipe's.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    rate: Callable[[float], float] = _always
    weight_decay: float | None = None
    clip_norm: float | None = None


class Examples(Protocol):
    """Examples by number: random access, the same at every reading."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclass(frozen=True)
class Moment:
    """Where the training stands, and the random numbers that belong to its items.

    items_B: numbers of the batch's items (int64). epoch: -1 in a validation, whose draws are always the same.
    averages: states of the extra moving averages (`Trainable.averages`). checkpointing: see `run`.
    """

    step: int
    num_steps: int
    epoch: int
    seed: int
    items_B: torch.Tensor
    averages: Mapping[str, State] = field(default_factory=dict)
    checkpointing: bool = False

    @property
    def progress(self) -> float:
        """0 at the first step, 1 at the last."""
        return min(self.step / max(self.num_steps - 1, 1), 1.0)

    @property
    def is_validation(self) -> bool:
        return self.epoch < 0

    def uniforms(self, shape: tuple[int, ...], stream: int) -> torch.Tensor:
        """(B, *shape) numbers in [0, 1), the same for an item whatever batch or process it is in."""
        return uniforms(self.items_B, shape, seed=self.seed, epoch=self.epoch, stream=stream)

    def normals(self, shape: tuple[int, ...], stream: int) -> torch.Tensor:
        """(B, *shape) standard normal numbers, the same for an item whatever batch or process it is in."""
        return normals(self.items_B, shape, seed=self.seed, epoch=self.epoch, stream=stream)

    def uniforms_at(self, row_X: torch.Tensor, position_X: torch.Tensor, num: int, stream: int) -> torch.Tensor:
        """(X, num) numbers in [0, 1) for ragged data: element `position_X` of the batch's row `row_X` (both int64)."""
        item_X = self.items_B[row_X]
        return uniforms_at(item_X, position_X, num, seed=self.seed, epoch=self.epoch, stream=stream)

    def run(self, module: Callable[..., Any], *inputs: Any) -> Any:
        """`module(*inputs)`; with gradient checkpointing it is computed again in the backward pass, not kept."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)


class Trainable(ABC):
    """A network (several as children of one module) with its examples, loss and validation.

    network: what is trained, averaged and saved; a frozen giant stays outside of it. selects: the figure that decides
    which weights are kept is the first of these that any item has; proxies come last. averages: decays of extra moving
    averages by name, given to every moment.
    """

    network: nn.Module
    selects: tuple[Metric, ...]
    averages: Mapping[str, float] = {}

    @abstractmethod
    def example(self, item: Given) -> Example:
        """What is learned from an item: a pure function, on CPU."""

    @abstractmethod
    def forward(self, batch: Batch, moment: Moment) -> Any:
        """Runs the networks, under autocast; what it returns only `loss` understands."""

    @abstractmethod
    def loss(self, outputs: Any, batch: Batch, moment: Moment) -> Terms:
        """The named terms of the loss, in float32; their weighted sum is minimised. The same names at every part of a
        batch."""

    @abstractmethod
    def validate(self, batch: Batch, moment: Moment) -> Mapping[str, torch.Tensor]:
        """Figures (B,) by metric, under averaged weights and without gradients; NaN where one does not apply."""

    def calibrate(self, examples: Examples, device: torch.device) -> None:  # noqa: B027 (optional)
        """Set what is measured on the training items, once, before the first step (input statistics, start shape)."""

    def groups(self) -> Sequence[Group]:
        """What is trained. A parameter in no group is never in the optimiser, never averaged and never saved."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return (Group("network", trained),)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Stacked along a new first dimension. Ragged examples are padded or joined by a method of the student's."""
        return stack(examples)

    def prepare(self, batch: Batch, moment: Moment) -> Batch:
        """On the device: draws of points, dropped views, noise."""
        return batch


def stack(examples: Sequence[Example]) -> Batch:
    """Examples of equal shapes, stacked along a new first dimension."""
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}

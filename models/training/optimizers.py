"""Optimisers by name over groups of parameters, which may be frozen and freed while the training goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from models.errors import Unavailable
from models.training.recipe import Recipe
from models.training.trainable import Group, Trainable
from models.training.weights import trained_parameters

BETAS = (0.9, 0.99)
"""AdamW's: a second moment that forgets ten times faster than the usual .999 suits trainings of some hundred steps."""


class Optimizer:
    """An optimiser over groups, and its state as named tensors and numbers."""

    def __init__(self, student: Trainable, recipe: Recipe) -> None:
        """Raises ValueError for groups that share a parameter or hold one that is not the network's."""
        self._groups, self._recipe = student.groups(), recipe
        self._names = trained_parameters(student)
        self._optimizer = _make([_parts(group, recipe) for group in self._groups], recipe)

    @property
    def trained(self) -> Mapping[str, nn.Parameter]:
        """Every parameter that is in a group, by its name in the network."""
        return self._names

    def begin_step(self, learning_rate: float, progress: float) -> None:
        """Set the groups' rates, and freeze those whose rate is 0."""
        rates = [group.rate(progress) for group in self._groups]
        for number, rate in enumerate(rates):
            for part in self._optimizer.param_groups[2 * number : 2 * number + 2]:
                part["lr"] = learning_rate * rate
            for parameter in self._groups[number].parameters:
                parameter.requires_grad_(rate > 0)
        self._optimizer.zero_grad(set_to_none=True)

    def clip(self) -> torch.Tensor:
        """Clip the gradients; returns the norm of those that are clipped together, before."""
        shared = [parameter for group in self._groups if group.clip_norm is None for parameter in group.parameters]
        norm = nn.utils.clip_grad_norm_(shared, self._recipe.clip_norm)
        for group in self._groups:
            if group.clip_norm is not None:
                norm_of_its_own = nn.utils.clip_grad_norm_(group.parameters, group.clip_norm)
                norm = norm if shared else norm_of_its_own
        return norm

    def step(self, scaler: GradScaler) -> None:
        scaler.step(self._optimizer)
        scaler.update()

    def unscale(self, scaler: GradScaler) -> None:
        if scaler.is_enabled():
            scaler.unscale_(self._optimizer)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors and numbers by `parameter.field`."""
        tensors, numbers = {}, {}
        for name, parameter in self._names.items():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{name}.{key}"] = value
                elif value is not None:
                    numbers[f"{name}.{key}"] = value
        return tensors, numbers

    def load(self, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any], device: torch.device) -> None:
        for dotted, value in [*tensors.items(), *numbers.items()]:
            name, _, field = dotted.rpartition(".")
            if isinstance(value, torch.Tensor) and field != "step":  # torch counts steps on the CPU
                value = value.to(device)
            self._optimizer.state[self._names[name]][field] = value


def _parts(group: Group, recipe: Recipe) -> list[dict[str, Any]]:
    """Matrices, which decay, and the rest."""
    if group.weight_decay is not None:
        return [{"params": list(group.parameters), "weight_decay": group.weight_decay}, {"params": []}]
    matrices = [parameter for parameter in group.parameters if parameter.ndim >= 2]
    others = [parameter for parameter in group.parameters if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _make(parts: Iterable[list[dict[str, Any]]], recipe: Recipe) -> torch.optim.Optimizer:
    groups = [part for pair in parts for part in pair]
    match recipe.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=BETAS)
        case "sgd":
            return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
        case "adamw8bit":
            return _adamw8bit(groups, recipe)


def _adamw8bit(groups: list[dict[str, Any]], recipe: Recipe) -> torch.optim.Optimizer:
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError as error:
        raise Unavailable(
            "train.optimizer adamw8bit needs the package bitsandbytes: pip install bitsandbytes, or take adamw"
        ) from error
    made: torch.optim.Optimizer = AdamW8bit(groups, lr=recipe.learning_rate, betas=BETAS)
    return made

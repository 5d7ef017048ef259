"""What a student saves: all that is trained, and buffers. A frozen parameter is neither saved nor missed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from models.training.trainable import Trainable


def trained_parameters(student: Trainable) -> dict[str, nn.Parameter]:
    """The parameters of the student's groups, by their names in the network.

    Raises ValueError for groups that share a parameter or hold one that is not the network's.
    """
    chosen = [id(parameter) for group in student.groups() for parameter in group.parameters]
    named = student.network.named_parameters()
    found = {name: parameter for name, parameter in named if id(parameter) in set(chosen)}
    if len(found) != len(chosen):
        raise ValueError("groups share a parameter, or one of them holds a parameter that is not the network's")
    return found


def load_trained(student: Trainable, state: Mapping[str, torch.Tensor]) -> None:
    """Load what a student saved into its network. Raises ValueError for a state of another network."""
    missing, unexpected = student.network.load_state_dict(state, strict=False)
    frozen = {name for name, _ in student.network.named_parameters()} - trained_parameters(student).keys()
    if wrong := [*unexpected, *(name for name in missing if name not in frozen)]:
        raise ValueError(f"the weights are of another network: {', '.join(wrong[:3])} missing or unknown")


def saved_state(student: Trainable, parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """These trained parameters, and the network's buffers as they are."""
    own = {name for name, _ in student.network.named_parameters()}
    buffers = {name: value for name, value in student.network.state_dict().items() if name not in own}
    return buffers | dict(parameters)

"""Data-parallel training: each process takes its share of every batch, gradients are summed over the processes.

    world = join()                     # in each process that torchrun started
    train(student, training, validation, recipe, job)              # the same call in each, with job.world = world
    leave(world)

`batch_size` counts the items of all processes, so the number of processes changes results by rounding only. Gradients
are summed once a step, after the last part of the batch, one message for each type of number. That asks nothing of the
student's networks (frozen groups, several passes, gradient checkpointing), and does not overlap with the backward pass.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

TIMEOUT = timedelta(minutes=30)
"""How long one process waits for another: longer than any validation, which is not shared."""


@dataclass(frozen=True)
class World:
    """One process among `size`; the default is a single process, which needs no process group."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """The process's number on its machine: its GPU's."""

    def share_weights(self, network: torch.nn.Module) -> None:
        """The first process's weights and buffers are given to all."""
        if self.size > 1:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Each gradient becomes the sum of all processes' gradients; those that none has stay None."""
        if self.size == 1:
            return
        by_type = defaultdict(list)
        for parameter in parameters:
            if parameter.requires_grad:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                by_type[gradient.dtype].append((parameter, gradient))
        for members in by_type.values():
            flat = torch.cat([gradient.flatten() for _, gradient in members])
            distributed.all_reduce(flat)
            parts = torch.split(flat, [gradient.numel() for _, gradient in members])
            for (parameter, gradient), part in zip(members, parts, strict=True):
                parameter.grad = part.view_as(gradient)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        if self.size > 1:
            distributed.barrier()


ALONE = World()


def join(backend: str) -> World:
    """Join the process group that torchrun's environment describes. backend: "gloo", or "nccl" on CUDA."""
    distributed.init_process_group(backend, timeout=TIMEOUT)
    return World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))


def leave(world: World) -> None:
    if world.size > 1:
        distributed.destroy_process_group()


def weights_digest(network: torch.nn.Module) -> str:
    """sha256 of all weights and buffers: equal digests, equal networks."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

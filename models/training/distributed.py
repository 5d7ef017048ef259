"""Data-parallel training: each process takes its share of every batch, gradients are averaged by torch's DDP.

    world = join("file:///shared/rendezvous", rank=0, size=2, backend="gloo")      # "nccl" on CUDA
    train(student, shapes, validation, recipe, world=world, ...)                   # the same call in each process
    leave(world)

`batch_size` counts the items of all processes, so the number of processes changes results by rounding only.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """One process among `size`; the default is a single process, which needs no process group."""

    rank: int = 0
    size: int = 1

    def wrap(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network with gradients averaged over the processes; the first one's weights are given to all."""
        return network if self.size == 1 else DistributedDataParallel(network)

    def without_sync(self, network: torch.nn.Module) -> AbstractContextManager[None]:
        """No averaging inside: for all but the last part of an accumulated batch."""
        if isinstance(network, DistributedDataParallel):
            return network.no_sync()
        return nullcontext()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        if self.size > 1:
            distributed.barrier()


ALONE = World()


def join(rendezvous: str, *, rank: int, size: int, backend: str) -> World:
    """Join the process group at the URL `rendezvous`."""
    distributed.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=size)
    return World(rank, size)


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

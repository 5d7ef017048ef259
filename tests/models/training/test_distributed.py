from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from models.students.mesh_deform import Params, create
from models.training.distributed import World, join, leave, weights_digest
from models.training.engine import train
from models.training.recipe import Recipe
from tests.models.training import toy_shapes

RECIPE = Recipe(epochs=3, batch_size=4, accumulate=1, num_points=64, validation_points=64, checkpoint_every_steps=2)


def trained(folder: Path, world: World) -> tuple[torch.nn.Module, list[float]]:
    student = create(Params(), toy_shapes.spec(grid=4, channels=16), seed=0)
    shapes = toy_shapes.shapes(8, seed=1, grid=4, channels=16, num_points=500)
    result = train(
        student, shapes, None, RECIPE, device="cpu", folder=folder, config={}, progress=lambda _: None, world=world
    )
    return student.network, [row["loss"] for row in result.history.steps]


def one_of_two(_: int, rank: int, folder: Path) -> None:
    world = join(f"file://{folder}/rendezvous", rank=rank, size=2, backend="gloo")
    network, losses = trained(folder / "checkpoints", world)
    torch.save({"digest": weights_digest(network), "losses": losses, "state": network.state_dict()}, folder / str(rank))
    leave(world)


def test_two_processes_train_as_one_does_with_all_of_the_batch(tmp_path):
    other = multiprocessing.spawn(one_of_two, (1, tmp_path), join=False)
    one_of_two(0, 0, tmp_path)
    other.join()
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in (0, 1))
    network, losses = trained(tmp_path / "alone", World())
    assert first["digest"] == second["digest"]
    assert first["losses"] == pytest.approx(losses, rel=1e-4)
    for name, value in network.state_dict().items():
        assert torch.allclose(first["state"][name], value, atol=2e-4), name


def test_a_single_process_needs_no_group():
    network = torch.nn.Linear(2, 2)
    assert World().wrap(network) is network
    assert torch.equal(World().sum(torch.ones(2)), torch.ones(2))

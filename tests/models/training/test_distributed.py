import os
import signal
from pathlib import Path

import pytest
import torch

from models.students.mesh_deform import Params, create
from models.training.distributed import World, join, leave, weights_digest
from models.training.engine import Job, train
from models.training.launch import ProcessesFailed, run_in_processes
from models.training.recipe import Recipe
from tests.models.training import toy_shapes

RECIPE = Recipe(epochs=3, batch_size=4, checkpoint_every_steps=2)


def trained(folder: Path, world: World, kill_at_step: int | None = None) -> tuple[torch.nn.Module, list[float]]:
    student = create(Params(num_points=64), toy_shapes.spec(grid=4, channels=16), seed=0)
    forward = student.forward

    def forward_until_killed(batch, moment):
        if moment.step == kill_at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        return forward(batch, moment)

    student.forward = forward_until_killed
    shapes = toy_shapes.shapes(8, seed=1, grid=4, channels=16, num_points=500)
    result = train(student, shapes, None, RECIPE, Job(folder, world=world))
    return student.network, [row["loss"] for row in result.steps]


def in_one_process(folder: Path, kill_rank_1_once: bool) -> None:
    """What each process does; the second one kills itself at step 3 when it first runs."""
    world = join("gloo")
    is_killed = kill_rank_1_once and world.rank == 1 and not (folder / "killed").exists()
    if is_killed:
        (folder / "killed").touch()
    network, losses = trained(folder / "checkpoints", world, kill_at_step=3 if is_killed else None)
    made = {"digest": weights_digest(network), "losses": losses, "state": network.state_dict()}
    torch.save(made, folder / str(world.rank))
    leave(world)


def failing(folder: Path) -> None:
    raise ValueError("these examples cannot be trained")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("alone"), World())


@pytest.mark.parametrize("is_killed", [False, True])
def test_two_processes_train_as_one_does_with_all_of_the_batch(tmp_path, alone, is_killed):
    run_in_processes(2, in_one_process, tmp_path, is_killed)
    first, second = (torch.load(tmp_path / str(rank), weights_only=True) for rank in (0, 1))
    network, losses = alone
    assert (tmp_path / "killed").exists() == is_killed
    assert first["digest"] == second["digest"]
    assert first["losses"] == pytest.approx(losses, rel=1e-6)
    for name, value in network.state_dict().items():
        assert torch.allclose(first["state"][name], value, atol=2e-4), name


def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(ProcessesFailed, match=r"process \d of 2: .*these examples cannot be trained"):
        run_in_processes(2, failing, tmp_path, restarts=0)


def test_a_single_process_needs_no_group():
    assert torch.equal(World().sum(torch.ones(2)), torch.ones(2))

"""What one optimiser step does to the weights: the gradient is clipped, and what is kept is a moving average."""

import pytest
import torch

from models.students.mesh_deform import Params, create
from models.training.engine import Job, TrainingResult, train
from models.training.recipe import Recipe
from tests.models.training import toy_shapes

SPEC = toy_shapes.spec(grid=4, channels=16)
TRAINING = toy_shapes.shapes(4, seed=1, grid=4, channels=16, num_points=500)
ONE_STEP = {"epochs": 1, "batch_size": 4, "warmup_share": 0.0, "weight_decay": 0.0}
NO_STEP = 1e-30
"""A learning rate that leaves every weight as it is."""


def after_one_step(folder, **changes) -> TrainingResult:
    """Without validation items, so that the last average is what is kept."""
    recipe = Recipe(**ONE_STEP | changes)
    return train(create(Params(num_points=64), SPEC, seed=0), TRAINING, None, recipe, Job(folder))


def weights(result: TrainingResult) -> torch.Tensor:
    """All of the shape's: the colours have a clipping of their own."""
    shape = (value for name, value in result.state.items() if not name.startswith("colouring."))
    return torch.cat([value.double().reshape(-1) for value in shape if value.is_floating_point()])


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> torch.Tensor:
    """The weights that every training here goes out from."""
    return weights(after_one_step(tmp_path_factory.mktemp("start"), learning_rate=NO_STEP))


@pytest.fixture(scope="module")
def stepped(tmp_path_factory) -> TrainingResult:
    """One step, and nothing averaged."""
    return after_one_step(tmp_path_factory.mktemp("stepped"), ema_decay=0.0)


def test_what_is_kept_is_the_moving_average_of_the_weights(tmp_path, start, stepped):
    averaged = weights(after_one_step(tmp_path, ema_decay=0.99))
    decay = Recipe(ema_decay=0.99).ema_decay_at(0)
    assert 0 < decay < 0.5
    assert float((weights(stepped) - start).abs().max()) > 1e-4
    torch.testing.assert_close(averaged, decay * start + (1 - decay) * weights(stepped), rtol=0, atol=1e-7)


def test_a_gradient_that_is_clipped_to_nothing_moves_nothing(tmp_path, start, stepped):
    """AdamW divides by the gradient's own size, so that only clipping far below its epsilon, 1e-8, shows."""
    clipped = after_one_step(tmp_path, ema_decay=0.0, clip_norm=1e-14)
    assert float((weights(clipped) - start).abs().max()) < 1e-7
    before_clipping = stepped.steps[0]["gradient_norm"]
    assert clipped.steps[0]["gradient_norm"] == before_clipping > 1e-6

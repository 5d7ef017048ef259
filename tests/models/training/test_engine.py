import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from models.students.mesh_deform import Params, create
from models.training.engine import Job, TrainingResult, train
from models.training.recipe import Recipe
from tests.models.training import toy_shapes

SPEC = toy_shapes.spec(grid=4, channels=16)
TRAINING = toy_shapes.shapes(6, seed=1, grid=4, channels=16, num_points=1_000)
VALIDATION = toy_shapes.shapes(2, seed=2, grid=4, channels=16, num_points=1_000)
POINTS = {"num_points": 64, "validation_points": 128}
QUICK = {"epochs": 4, "batch_size": 4, "validate_every_epochs": 1, "checkpoint_every_steps": 3}


class Killed(Exception):
    """What the tests stop a training with."""


def run(
    folder, *, kill_at_part=None, config=None, validation=VALIDATION, training=TRAINING, job=None, **changes
) -> TrainingResult:
    student = create(Params(**POINTS), SPEC, seed=0)
    if kill_at_part is not None:
        forward, calls = student.forward, iter(range(10_000))

        def forward_until_killed(batch, moment):
            if next(calls) == kill_at_part:
                raise Killed
            return forward(batch, moment)

        student.forward = forward_until_killed
    job = replace(job or Job(folder), config=config or {})
    return train(student, training, validation, Recipe(**QUICK | changes), job)


def same(one: TrainingResult, other: TrainingResult) -> bool:
    equal = all(torch.equal(value, other.state[name]) for name, value in one.state.items())
    return equal and (one.steps, one.epochs, one.best) == (other.steps, other.epochs, other.best)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> TrainingResult:
    return run(tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.parametrize("step", [1, 4, 7])
def test_a_killed_training_ends_with_the_same_losses_and_weights_to_the_last_bit(tmp_path, uninterrupted, step):
    with pytest.raises(Killed):
        run(tmp_path, kill_at_part=step)
    assert same(run(tmp_path), uninterrupted)


def test_so_does_one_that_is_killed_between_the_parts_of_a_batch(tmp_path):
    whole = run(tmp_path / "whole", accumulate=2)
    with pytest.raises(Killed):
        run(tmp_path / "killed", accumulate=2, kill_at_part=9)
    assert same(run(tmp_path / "killed", accumulate=2), whole)


def test_a_finished_training_is_not_done_again(tmp_path, uninterrupted):
    run(tmp_path)
    assert same(run(tmp_path, kill_at_part=0), uninterrupted)


def test_accumulated_parts_give_the_whole_batchs_losses(tmp_path, uninterrupted):
    parts = run(tmp_path, accumulate=2)
    for one, other in zip(parts.steps, uninterrupted.steps, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_losses_are_logged_raw_weighted_and_total(uninterrupted):
    first, last = uninterrupted.steps[0], uninterrupted.steps[-1]
    assert set(first["raw"]) == set(first["weighted"]) == {"teacher", "truth", "edge", "laplacian", "normal", "colour"}
    assert first["loss"] == pytest.approx(sum(first["weighted"].values()))
    assert first["weighted"]["teacher"] == pytest.approx(0.9 * first["raw"]["teacher"], rel=1e-5)
    assert last["weighted"]["teacher"] == pytest.approx(0.3 * last["raw"]["teacher"], rel=1e-5)
    json.dumps([first, last])


def test_the_weights_kept_are_those_that_validated_best(uninterrupted):
    validated = [row["val_chamfer"] for row in uninterrupted.epochs]
    assert len(validated) == 4
    assert uninterrupted.best["chamfer"] == min(validated)
    assert (uninterrupted.selected.name, uninterrupted.selected.is_proxy) == ("chamfer", False)


def test_validation_without_truth_is_a_proxy_to_the_teacher(tmp_path):
    result = run(tmp_path, validation=VALIDATION.without_truth(), epochs=1)
    assert (result.selected.name, result.selected.is_proxy) == ("chamfer_to_teacher", True)
    assert set(result.best) == {"chamfer_to_teacher"}


def test_without_truth_alpha_is_one_and_without_validation_the_last_weights_stay(tmp_path):
    result = run(tmp_path, training=TRAINING.without_truth(), validation=None, epochs=1)
    for row in result.steps:
        assert row["weighted"]["teacher"] == pytest.approx(row["raw"]["teacher"])
        assert row["weighted"]["truth"] == 0
    assert (result.selected, result.best) == (None, {})


def test_other_settings_do_not_continue_a_checkpoint(tmp_path):
    run(tmp_path, epochs=1, config={"encoder": "dct"})
    with pytest.raises(ValueError, match="encoder was 'dct', is 'dinov2'"):
        run(tmp_path, epochs=1, config={"encoder": "dinov2"})


def test_checkpoints_hold_weights_average_moments_and_generator_without_pickle(tmp_path):
    run(tmp_path, epochs=1)
    (newest,) = tmp_path.glob("step-*.safetensors")
    with safe_open(newest, framework="pt") as stored:
        groups = {name.partition(".")[0] for name in stored.keys()}  # noqa: SIM118
    assert groups == {"model", "ema", "best", "optimizer", "rng"}


def test_a_diverged_training_says_what_to_lower(tmp_path):
    with pytest.raises(FloatingPointError, match="lower `learning_rate`"):
        run(tmp_path, learning_rate=1e30, clip_norm=1e30)


def test_a_batch_too_small_to_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be split into accumulate 8"):
        run(tmp_path, batch_size=8, accumulate=8)


def test_the_callers_torch_settings_are_left_as_they_were(tmp_path):
    threads = torch.get_num_threads()
    run(tmp_path, epochs=1, num_threads=threads + 1)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_scalars_go_to_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, epochs=1, job=Job(tmp_path / "checkpoints", board=tmp_path / "board"))
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert {"step/loss", "raw/teacher", "weighted/truth", "epoch/val_chamfer"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("step/loss")] == [1, 2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_cuda_lowers_the_loss(tmp_path, precision):
    result = run(tmp_path, epochs=20, precision=precision, job=Job(tmp_path, device="cuda:0"))
    assert result.steps[-1]["raw"]["truth"] < result.steps[0]["raw"]["truth"]

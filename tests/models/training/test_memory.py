"""Trainings that run out of memory: batches are split further, and the losses stay those of the whole batch."""

import gc
import json
import logging
import weakref

import pytest
import torch

from models.errors import ItemFailed
from models.students.mesh_deform import Params, create
from models.training.engine import Job, TrainingResult, train
from models.training.memory import Exceeded, Fit, attempt
from models.training.recipe import Recipe
from tests.models.training import toy_shapes

SPEC = toy_shapes.spec(grid=4, channels=16)
TRAINING = toy_shapes.shapes(6, seed=1, grid=4, channels=16, num_points=500)
VALIDATION = toy_shapes.shapes(3, seed=2, grid=4, channels=16, num_points=500)
POINTS = {"num_points": 64, "validation_points": 64}
QUICK = {"epochs": 3, "batch_size": 4, "validate_every_epochs": 1, "checkpoint_every_steps": 2}
CPU = torch.device("cpu")


class Killed(Exception):
    """What the tests stop a training with."""


class Card:
    """A student whose batches fit up to a size, as on a small card; counts what it was asked for and refused."""

    def __init__(self, fits: int = 100, validation_fits: int = 100, error: type[Exception] = torch.OutOfMemoryError):
        self.student = create(Params(**POINTS), SPEC, seed=0)
        self.batches: list[int] = []
        self.refused = 0
        self.kill_at_batch = None
        forward, validate = self.student.forward, self.student.validate

        def limited_forward(batch, moment):
            self.batches.append(len(moment.items_B))
            if len(self.batches) == self.kill_at_batch:
                raise Killed
            self._allocate(len(moment.items_B), fits, error)
            return forward(batch, moment)

        def limited_validate(batch, moment):
            self._allocate(len(moment.items_B), validation_fits, error)
            return validate(batch, moment)

        self.student.forward, self.student.validate = limited_forward, limited_validate

    def _allocate(self, num_items, most, error):
        if num_items > most:
            self.refused += 1
            raise error("CUDA out of memory. Tried to allocate 2.00 GiB")

    def trained(self, folder, progress=lambda _: None, **changes) -> TrainingResult:
        return train(self.student, TRAINING, VALIDATION, Recipe(**QUICK | changes), Job(folder, progress=progress))


def losses(result: TrainingResult) -> list[float]:
    return [row["loss"] for row in result.steps]


def validated(result: TrainingResult) -> list[float]:
    return [row["val_chamfer"] for row in result.epochs]


@pytest.fixture(scope="module")
def roomy(tmp_path_factory) -> TrainingResult:
    return Card().trained(tmp_path_factory.mktemp("roomy"))


def test_a_batch_that_does_not_fit_is_split_until_it_does_and_the_losses_stay(tmp_path, roomy, caplog):
    card, said = Card(fits=1), []
    with caplog.at_level(logging.WARNING):
        result = card.trained(tmp_path, said.append)
    assert losses(result) == pytest.approx(losses(roomy), rel=1e-3)
    assert validated(result) == pytest.approx(validated(roomy), rel=1e-2)
    assert card.batches == [4, 2, *[1] * 4 * 6]
    assert [line for line in said if "memory" in line] == [
        "out of memory (oom_gpu) at step 1: micro-batch 4 -> 2 items, accumulated over 2 parts; the step is done again",
        "out of memory (oom_gpu) at step 1: micro-batch 2 -> 1 items, accumulated over 4 parts; the step is done again",
    ]
    assert "micro-batch 4 -> 2 items" in caplog.text
    assert result.fit == {"micro_batch": 1, "accumulate": 4, "validation_batch": 8, "out_of_memory": 2}


def test_a_training_with_room_is_split_as_asked_for_and_remembers_nothing(tmp_path, roomy):
    result = Card().trained(tmp_path, accumulate=2)
    assert result.fit == {"micro_batch": 2, "accumulate": 2, "validation_batch": 8, "out_of_memory": 0}
    assert roomy.fit["micro_batch"] == 4
    assert not (tmp_path / Fit.FILE).exists()


def test_a_split_batch_gives_the_bytes_of_one_that_was_split_from_the_start(tmp_path):
    asked = Card().trained(tmp_path / "asked", accumulate=2)
    forced = Card(fits=2).trained(tmp_path / "forced")
    assert (forced.steps, forced.epochs) == (asked.steps, asked.epochs)
    assert all(torch.equal(value, asked.state[name]) for name, value in forced.state.items())


def test_parts_of_unequal_size_have_the_whole_batchs_losses(tmp_path):
    whole = Card().trained(tmp_path / "whole", batch_size=6)
    card = Card(fits=2)
    assert losses(card.trained(tmp_path / "split", batch_size=6)) == pytest.approx(losses(whole), rel=1e-3)
    assert card.batches[:6] == [6, 3, 2, 2, 1, 1]


def test_where_not_even_one_item_fits_it_says_what_to_lower(tmp_path):
    with pytest.raises(ItemFailed, match=r"with a micro-batch of 1 item: take a smaller student.*2.00 GiB") as failed:
        Card(fits=0).trained(tmp_path)
    assert failed.value.failure_class == "oom_gpu"
    assert "OutOfMemoryError" in failed.value.detail
    with pytest.raises(ItemFailed, match="in the validation of 1 item: take a smaller student"):
        Card(validation_fits=0).trained(tmp_path / "validation")


def test_a_resumed_training_does_not_run_out_of_memory_again(tmp_path, roomy):
    killed = Card(fits=2)
    killed.kill_at_batch = 8
    with pytest.raises(Killed):
        killed.trained(tmp_path)
    assert killed.refused == 1
    resumed = Card(fits=2)
    result = resumed.trained(tmp_path)
    assert resumed.refused == 0
    assert result.fit["out_of_memory"] == 0
    assert set(resumed.batches) == {2}
    assert losses(result) == pytest.approx(losses(roomy), rel=1e-3)


def test_it_is_remembered_before_the_first_checkpoint(tmp_path):
    killed = Card(fits=1)
    killed.kill_at_batch = 4
    with pytest.raises(Killed):
        killed.trained(tmp_path)
    assert not list(tmp_path.glob("step-*"))
    assert Fit(tmp_path, CPU, batch=4, accumulate=1, validation_batch=8).accumulate == 4


def test_what_fitted_on_another_device_is_not_taken_over(tmp_path):
    (tmp_path / Fit.FILE).write_text(json.dumps({"NVIDIA A2": {"accumulate": 4, "validation_batch": 1}}))
    fit = Fit(tmp_path, CPU, batch=4, accumulate=1, validation_batch=8)
    assert (fit.micro_batch, fit.accumulate, fit.validation_batch) == (4, 1, 8)


def test_a_validation_that_does_not_fit_takes_fewer_items_at_once(tmp_path, roomy):
    card, said = Card(validation_fits=1), []
    result = card.trained(tmp_path, said.append)
    assert validated(result) == pytest.approx(validated(roomy), rel=1e-3)
    assert losses(result) == losses(roomy)
    assert "out of memory (oom_gpu) in the validation: 2 -> 1 items at once; it is done again" in said
    assert result.fit["validation_batch"] == 1


def test_host_memory_counts_too_and_other_errors_go_up(tmp_path):
    assert Card(fits=2, error=MemoryError).trained(tmp_path, epochs=1).fit["accumulate"] == 2
    with pytest.raises(RuntimeError, match="an illegal memory access"):
        attempt(lambda: (_ for _ in ()).throw(RuntimeError("CUDA error: an illegal memory access was encountered")))


def test_what_ran_out_of_memory_holds_none_when_the_next_attempt_begins():
    alive: list[weakref.ref] = []

    def step():
        activations = torch.ones(10, requires_grad=True) * 2
        alive.append(weakref.ref(activations))
        raise torch.OutOfMemoryError(f"no room beside {len(activations)}")

    gc.disable()
    try:
        exceeded = attempt(step)
        assert isinstance(exceeded, Exceeded)
        assert exceeded.failure_class == "oom_gpu"
        assert alive[0]() is None
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_cuda_out_of_memory_is_recovered_from(tmp_path):
    """The process is given little more than a part of the batch takes: CUDA's allocator itself refuses the whole."""
    peaks = {}
    for size in (2, 32):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        on_cuda(tmp_path / str(size), batch_size=size)
        peaks[size] = torch.cuda.max_memory_reserved()
    limit = (peaks[2] + peaks[32]) / 2
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(0).total_memory)
    said: list[str] = []
    try:
        split = on_cuda(tmp_path / "split", said.append, batch_size=32)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    whole = on_cuda(tmp_path / "whole", batch_size=32)
    assert split.fit["accumulate"] > 1
    assert any("out of memory (oom_gpu)" in line for line in said)
    assert losses(split) == pytest.approx(losses(whole), rel=1e-2)
    print(f"peaks {peaks}, limit {limit:.0f} bytes, {split.fit}, {said[0]}")


def on_cuda(folder, progress=lambda _: None, *, batch_size) -> TrainingResult:
    spec = toy_shapes.spec(grid=16, channels=64)
    shapes = toy_shapes.shapes(32, seed=1, grid=16, channels=64, num_points=2_000)
    recipe = Recipe(epochs=2, batch_size=batch_size, precision="fp32")
    student = create(Params(preset="small", num_points=2_000), spec, seed=0)
    return train(student, shapes, None, recipe, Job(folder, device="cuda:0", progress=progress))

"""The engine on a student of another package: two networks, a frozen group, an extra average, any optimiser."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from models.geometry import Mesh
from models.metric import Metric
from models.needs import TOKENS, TRUTH, InHand
from models.students import FeatureSpec, Spec
from models.training.engine import Job, TrainingResult, train
from models.training.feeds import Listed
from models.training.recipe import Recipe
from models.training.trainable import Group
from models.training.weights import load_trained
from tests.support import PLUGINS

SPEC = Spec({"tokens": FeatureSpec("toy", 6, (2, 2), ("front",)).to_json()})
QUICK = {"epochs": 6, "batch_size": 4, "validate_every_epochs": 1, "checkpoint_every_steps": 2, "learning_rate": 0.05}


class Killed(Exception):
    """What the tests stop a training with."""


@pytest.fixture(autouse=True)
def plugins_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGINS))


def items(num_items: int, seed: int) -> list[InHand]:
    """Boxes whose tokens say their extents."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(num_items):
        extents = rng.uniform(0.2, 1, 3).astype(np.float32)
        corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32)
        grid = np.tile(np.concatenate([extents, np.zeros(3)]), (2, 2, 1)).astype(np.float16)
        mesh = Mesh(corners * extents, np.array([[0, 1, 2]], np.int32))
        made.append(InHand(f"box-{number}", {TOKENS: {"front": grid}, TRUTH: mesh}, (TOKENS, TRUTH)))
    return made


def sizer():
    from toy_sizer.student import Params, create

    return create(Params(), SPEC, seed=0)


def run(folder, student=None, *, kill_at_step=None, job=None, **changes) -> TrainingResult:
    student = student or sizer()
    loss = student.loss

    def loss_until_killed(outputs, batch, moment):
        if moment.step == kill_at_step:
            raise Killed
        return loss(outputs, batch, moment)

    student.loss = loss_until_killed
    training, validation = (Listed(items(num, seed), student.example) for num, seed in ((8, 1), (3, 2)))
    return train(student, training, validation, Recipe(**QUICK | changes), job or Job(folder))


def same(one: TrainingResult, other: TrainingResult) -> bool:
    equal = all(torch.equal(value, other.state[name]) for name, value in one.state.items())
    return equal and (one.steps, one.epochs, one.best) == (other.steps, other.epochs, other.best)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> TrainingResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLUGINS))
        return run(tmp_path_factory.mktemp("whole"))


def test_it_learns_and_says_what_selected(whole):
    assert whole.selected == Metric("size_error", "Size error", digits=3)
    assert whole.best["size_error"] == min(row["val_size_error"] for row in whole.epochs) < 0.15
    assert set(whole.steps[0]["raw"]) == {"size", "calm"}


@pytest.mark.parametrize("step", [1, 5, 7, 11])
def test_it_resumes_to_the_bit_before_at_and_after_the_unfreezing(tmp_path, whole, step):
    with pytest.raises(Killed):
        run(tmp_path, kill_at_step=step)
    assert same(run(tmp_path), whole)


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_other_optimisers_resume_to_the_bit_too(tmp_path, optimizer):
    settings = {"optimizer": optimizer, "schedule": "onecycle", "learning_rate": 0.01}
    expected = run(tmp_path / "whole", **settings)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at_step=5, **settings)
    assert same(run(tmp_path / "killed", **settings), expected)
    assert expected.steps[-1]["raw"]["size"] < expected.steps[0]["raw"]["size"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_and_resumes(tmp_path, precision):
    expected = run(tmp_path / "whole", precision=precision)
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at_step=5, precision=precision)
    assert same(run(tmp_path / "killed", precision=precision), expected)
    assert expected.best["size_error"] < 0.2


def test_a_frozen_group_stands_still_until_its_rate_rises(tmp_path):
    student = sizer()
    before = {name: value.clone() for name, value in student.network.state_dict().items()}
    with pytest.raises(Killed):
        run(tmp_path, student, kill_at_step=6)
    moved = {name for name, value in student.network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias"}
    student = sizer()
    run(tmp_path / "whole", student)
    moved = {name for name, value in student.network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.weight", "head.bias", "encoder.weight", "encoder.bias"}


def test_what_is_in_no_group_is_neither_saved_nor_missed(tmp_path, whole):
    run(tmp_path, epochs=1)
    with safe_open(next(tmp_path.glob("step-*.safetensors")), framework="pt") as stored:
        names = list(stored.keys())
    assert not any("never" in name for name in [*names, *whole.state])
    assert any(name.startswith("average.slow.head") for name in names)
    student = sizer()
    load_trained(student, whole.state)
    assert torch.equal(student.network["head"].weight, whole.state["head.weight"])
    with pytest.raises(ValueError, match=r"another network: head\.bias missing"):
        load_trained(student, {name: value for name, value in whole.state.items() if name != "head.bias"})


def test_streamed_and_resident_examples_give_equal_bits(tmp_path, whole):
    streamed = run(tmp_path, job=Job(tmp_path, feed="streamed"))
    assert same(streamed, whole)
    assert same(run(tmp_path / "auto", job=Job(tmp_path / "auto", memory_bytes=10)), whole)


def test_a_training_that_waits_for_its_data_says_so(tmp_path):
    import time

    student, said = sizer(), []
    example = student.example

    def slow_example(item):
        time.sleep(0.05)
        return example(item)

    student.example = slow_example
    run(tmp_path, student, epochs=1, job=Job(tmp_path, feed="streamed", progress=said.append))
    assert any("waited for data" in line for line in said)


def test_ragged_examples_are_joined_by_the_student(tmp_path, whole):
    """Examples of other lengths each: the student's own collate, resident and streamed."""

    def ragged():
        student = sizer()
        example, collate = student.example, type(student).collate

        class Ragged(type(student)):
            def example(self, item):
                made = dict(example(item))
                return made | {"extra": torch.zeros(1 + int(item.id[-1]))}

            def collate(self, examples):
                shared = [{name: one[name] for name in ("code", "size")} for one in examples]
                return collate(self, shared) | {"extra": torch.cat([one["extra"] for one in examples])}

        student.__class__ = Ragged
        return student

    resident = run(tmp_path / "resident", ragged())
    assert same(resident, whole)
    assert same(run(tmp_path / "s", ragged(), job=Job(tmp_path / "s", feed="streamed")), whole)


def test_a_group_of_its_own_is_clipped_on_its_own(tmp_path):
    def steps(clip_norm):
        student = sizer()
        groups = [replace(group, rate=lambda _: 1.0) for group in student.groups()]
        student.groups = lambda: (groups[0], replace(groups[1], clip_norm=clip_norm))
        before = {name: value.clone() for name, value in student.network.state_dict().items()}
        with pytest.raises(Killed):
            run(tmp_path / str(clip_norm), student, kill_at_step=1, optimizer="sgd", momentum=0.0, weight_decay=0.0)
        return {name: value - before[name] for name, value in student.network.state_dict().items()}

    free, clipped = steps(1e9), steps(1e-6)
    assert torch.equal(free["head.weight"], clipped["head.weight"])
    assert float(clipped["encoder.weight"].norm()) <= 1e-6 < float(free["encoder.weight"].norm())


@pytest.mark.parametrize("wrong", ["shared", "foreign"])
def test_groups_that_share_a_parameter_or_hold_a_foreign_one_are_refused(tmp_path, wrong):
    student = sizer()
    head = tuple(student.network["head"].parameters())
    other = head if wrong == "shared" else (torch.nn.Parameter(torch.zeros(1)),)
    student.groups = lambda: (Group("one", head), Group("two", other))
    with pytest.raises(ValueError, match="groups share a parameter"):
        run(tmp_path, student)


def test_eight_bit_moments_without_their_package_say_what_to_install(tmp_path):
    from models.errors import Unavailable

    with pytest.raises(Unavailable, match="pip install bitsandbytes"):
        run(tmp_path, optimizer="adamw8bit")


def test_gradient_checkpointing_changes_no_bit(tmp_path, whole):
    assert same(run(tmp_path, gradient_checkpointing=True), whole)

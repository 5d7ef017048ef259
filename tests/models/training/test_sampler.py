import numpy as np
import pytest
import torch

from models.training.sampler import batch_indices, normals, permutation, steps_per_epoch, uniforms, uniforms_at


def draw(items: list[int], *, seed: int = 0, epoch: int = 0, stream: int = 1) -> torch.Tensor:
    return uniforms(torch.tensor(items), (1_000,), seed=seed, epoch=epoch, stream=stream)


def test_every_epoch_shows_each_item_once_in_another_order():
    epochs = [np.concatenate([batch_indices(12, 4, 3 * epoch + step, seed=7) for step in range(3)]) for epoch in (0, 1)]
    assert [sorted(order) for order in epochs] == [list(range(12))] * 2
    assert not np.array_equal(*epochs)


def test_the_last_batch_is_filled_from_the_epochs_beginning():
    order = permutation(5, seed=1, epoch=0)
    assert steps_per_epoch(5, 2) == 3
    assert list(batch_indices(5, 2, 2, seed=1)) == [order[4], order[0]]


def test_a_batch_is_no_larger_than_the_set():
    assert sorted(batch_indices(3, 8, 0, seed=0)) == [0, 1, 2]


def test_draws_are_uniform_and_independent_of_each_other():
    values = draw(list(range(50)))
    assert float(values.min()) >= 0
    assert float(values.max()) < 1
    assert abs(float(values.mean()) - 0.5) < 0.005
    assert abs(float(values.var()) - 1 / 12) < 0.002
    correlations = torch.corrcoef(values) - torch.eye(50)
    assert float(correlations.abs().max()) < 0.15


def test_an_items_draws_do_not_depend_on_its_batch():
    assert torch.equal(draw([3, 9])[1], draw([9])[0])


def test_seed_epoch_item_and_stream_each_change_the_draws():
    reference = draw([1])
    others = [draw([2]), draw([1], seed=1), draw([1], epoch=1), draw([1], epoch=-1), draw([1], stream=3)]
    assert all(abs(float(torch.corrcoef(torch.cat([reference, other]))[0, 1])) < 0.15 for other in others)


def test_draws_are_the_same_on_every_machine():
    drawn = uniforms(torch.tensor([5]), (3,), seed=1, epoch=2, stream=2)
    assert drawn.tolist() == [[0.3189436197280884, 0.21290570497512817, 0.7057979702949524]]


def test_ragged_draws_are_rows_of_the_dense_ones():
    draws = {"seed": 4, "epoch": 2, "stream": 1}
    dense = uniforms(torch.tensor([5, 9]), (6, 3), **draws)
    item_X, position_X = torch.tensor([9, 5, 9]), torch.tensor([0, 4, 5])
    ragged = uniforms_at(item_X, position_X, 3, **draws)
    assert torch.equal(ragged, torch.stack([dense[1, 0], dense[0, 4], dense[1, 5]]))


def test_normals_have_mean_zero_deviation_one_and_normal_tails():
    found = normals(torch.arange(200), (500,), seed=1, epoch=0, stream=2)
    assert found.shape == (200, 500)
    assert float(found.mean()) == pytest.approx(0, abs=0.02)
    assert float(found.std()) == pytest.approx(1, abs=0.02)
    assert float((found.abs() > 2).float().mean()) == pytest.approx(0.0455, abs=0.005)

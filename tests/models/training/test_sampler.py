import numpy as np
import torch

from models.training.sampler import Stream, batch_indices, permutation, steps_per_epoch, uniforms


def draw(items: list[int], *, seed: int = 0, epoch: int = 0, stream: Stream = Stream.SURFACE) -> torch.Tensor:
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
    others = [draw([2]), draw([1], seed=1), draw([1], epoch=1), draw([1], epoch=-1), draw([1], stream=Stream.VIEWS)]
    assert all(abs(float(torch.corrcoef(torch.cat([reference, other]))[0, 1])) < 0.15 for other in others)


def test_draws_are_the_same_on_every_machine():
    drawn = uniforms(torch.tensor([5]), (3,), seed=1, epoch=2, stream=Stream.SUBSET)
    assert drawn.tolist() == [[0.3189436197280884, 0.21290570497512817, 0.7057979702949524]]

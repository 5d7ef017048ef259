import torch

from models.training.sampler import uniforms
from models.view_dropout import drop_views


def dropped(present: list[bool], rate: float, num_items: int = 2_000) -> torch.Tensor:
    present_BV = torch.tensor(present).expand(num_items, -1)
    draws = uniforms(torch.arange(num_items), (1 + len(present),), seed=0, epoch=0, stream=3)
    return drop_views(present_BV, draws, rate)


def test_some_items_lose_views_and_none_loses_all():
    kept = dropped([True] * 4, 0.6).sum(1)
    shares = torch.bincount(kept, minlength=5) / len(kept)
    assert torch.allclose(shares, torch.tensor([0, 0.2, 0.2, 0.2, 0.4]), atol=0.03)


def test_every_view_is_kept_equally_often():
    kept = dropped([True] * 4, 1.0).float().mean(0)
    assert torch.allclose(kept, torch.full((4,), 0.5), atol=0.04)


def test_absent_views_stay_absent_and_a_single_one_is_kept():
    assert not dropped([True, False, True], 1.0)[:, 1].any()
    assert torch.equal(dropped([False, True], 1.0), torch.tensor([False, True]).expand(2_000, -1))


def test_without_dropout_all_views_are_kept():
    assert dropped([True] * 3, 0.0).all()

import pytest
import torch
from pydantic import ValidationError

from models.training.recipe import Recipe


@pytest.mark.parametrize("wrong", [{"clip_norm": 0}, {"momentum": 1.0}, {"epochs": 0}, {"warmup": 5}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_a_batch_cannot_be_split_into_more_parts_than_items():
    with pytest.raises(ValidationError, match="accumulate is 9, more than batch_size 8"):
        Recipe(batch_size=8, accumulate=9)


def test_the_learning_rate_warms_up_and_falls_along_a_cosine():
    recipe = Recipe(learning_rate=1.0, warmup_share=0.1)
    rates = [recipe.learning_rate_at(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.505)
    assert rates[99] == pytest.approx(0.01, abs=1e-3)


def test_the_average_forgets_the_first_weights_quickly():
    recipe = Recipe(ema_decay=0.99)
    assert recipe.ema_decay_at(0) == pytest.approx(0.1)
    assert recipe.ema_decay_at(10_000) == 0.99


def test_onecycle_is_torchs():
    recipe = Recipe(learning_rate=0.5, schedule="onecycle")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=50, cycle_momentum=False)
    for step in range(50):
        assert recipe.learning_rate_at(step, 50) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9), step
        optimizer.step()
        if step < 49:
            scheduler.step()


def test_a_single_step_of_onecycle_has_a_rate():
    assert Recipe(schedule="onecycle").learning_rate_at(0, 2) > 0


def test_the_constant_schedule_stays_at_the_peak_after_its_warm_up():
    recipe = Recipe(learning_rate=1.0, schedule="constant", warmup_share=0.1)
    rates = [recipe.learning_rate_at(step, 100) for step in range(100)]
    assert rates[4] == pytest.approx(0.5)
    assert rates[9:] == [1.0] * 91
    assert Recipe(schedule="constant", warmup_share=0.0, learning_rate=1.0).learning_rate_at(0, 3) == 1.0

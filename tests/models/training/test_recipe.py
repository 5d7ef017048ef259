import pytest
from pydantic import ValidationError

from models.training.recipe import Recipe


@pytest.mark.parametrize(
    ("preset", "start", "end"), [("balanced", 0.9, 0.3), ("conservative", 0.95, 0.5), ("aggressive", 0.8, 0.2)]
)
def test_alpha_presets_run_from_start_to_end(preset, start, end):
    recipe = Recipe(alpha=preset)
    assert recipe.alpha_at(0) == pytest.approx(start)
    assert recipe.alpha_at(0.5) == pytest.approx((start + end) / 2)
    assert recipe.alpha_at(1) == pytest.approx(end)


def test_alpha_ends_can_be_set_one_by_one():
    assert Recipe(alpha="aggressive", alpha_end=0.0).alpha_range == (0.8, 0.0)


@pytest.mark.parametrize("wrong", [{"alpha_start": 1.2}, {"alpha_end": -0.1}, {"epochs": 0}, {"warmup": 5}])
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

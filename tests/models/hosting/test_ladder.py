"""The rung that an item starts with: the best one at which its size is expected to fit."""

import numpy as np

from models.hosting.ladder import Evidence, Ladder


def seen(rung, fits, *sizes):
    return [Evidence(rung, size, fits) for size in sizes]


def test_without_evidence_every_item_starts_at_the_top():
    assert Ladder(3).start(0.9) == 0


def test_what_did_not_fit_sends_larger_items_down_and_leaves_smaller_ones_at_the_top():
    ladder = Ladder(2, seen(0, False, 0.5))
    assert [ladder.start(size) for size in (0.4, 0.5, 0.6)] == [0, 1, 1]


def test_a_card_too_small_for_a_rung_teaches_that_of_all_sizes():
    ladder = Ladder(3, [*seen(0, False, 0.1, 0.2, 0.3), *seen(1, False, 0.1, 0.2)])
    assert ladder.start(0.15) == 2
    assert ladder.start(0.05) == 0, "smaller than anything that failed"


def test_the_threshold_misjudges_fewest_and_is_generous_where_it_may_be():
    ladder = Ladder(2, [*seen(0, True, 0.1, 0.2, 0.3, 0.6), *seen(0, False, 0.25, 0.5, 0.7, 0.8)])
    assert [ladder.start(size) for size in (0.2, 0.24, 0.45, 0.65, 0.9)] == [0, 0, 0, 0, 1]


def test_one_fluke_among_many_fits_is_outvoted():
    ladder = Ladder(2, [*seen(0, False, 0.3), *seen(0, True, 0.4, 0.5, 0.6, 0.7)])
    assert ladder.start(0.55) == 0


def test_the_last_rung_is_taken_even_where_it_is_not_expected_to_fit():
    assert Ladder(2, [*seen(0, False, 0.1), *seen(1, False, 0.1)]).start(0.5) == 1


def test_old_evidence_is_forgotten():
    ladder = Ladder(2, seen(0, False, *np.full(50, 0.1)))
    assert ladder.start(0.5) == 1
    for one in seen(0, True, *np.full(200, 0.6)):
        ladder.add(one)
    assert ladder.start(0.5) == 0


def test_the_limit_is_the_one_that_trying_every_limit_would_find():
    random = np.random.default_rng(5)
    for _ in range(200):
        sizes, fits = random.integers(1, 8, 12) / 8, random.random(12) < 0.5
        ladder = Ladder(2, [Evidence(0, size, bool(fit)) for size, fit in zip(sizes, fits, strict=True)])
        limits = [*sorted(set(sizes)), np.inf]
        wrong = [np.sum((sizes < limit) != fits) for limit in limits]
        best = max(limit for limit, count in zip(limits, wrong, strict=True) if count == min(wrong))
        for size in np.arange(0, 9) / 8:
            assert (ladder.start(size) == 0) == (size < best)

import numpy as np
import pytest

from models.baselines.nearest import POOLED, FeatureIndex, pool


def grid(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((16, 16, 6)).astype(np.float16)


def test_an_item_is_nearest_to_itself() -> None:
    index = FeatureIndex.build((str(seed), {"front": grid(seed), "left": grid(seed + 50)}) for seed in range(8))
    assert [index.nearest({"front": grid(seed), "left": grid(seed + 50)}) for seed in range(8)] == list("01234567")


def test_what_all_items_share_does_not_decide() -> None:
    common = 50 * np.ones((16, 16, 6), np.float16)
    index = FeatureIndex.build((str(seed), {"front": grid(seed) + common}) for seed in range(4))
    assert index.nearest({"front": grid(2) + common}) == "2"


def flat(*vector: float) -> np.ndarray:
    """A grid of equal tokens."""
    return np.broadcast_to(np.array(vector, np.float16), (8, 8, len(vector)))


def test_items_are_compared_by_direction_from_their_mean_and_not_by_length_or_place() -> None:
    """The query lies nearer to `long`, and so says the dot product; its direction is `short`'s."""
    short, long = (50, 1, 0), (50, 2, 1.5)
    opposite = [(50, -1, 0), (50, -2, -1.5)]  # with them the mean is (50, 0, 0)
    index = FeatureIndex.build((str(vector), {"front": flat(*vector)}) for vector in (long, short, *opposite))
    assert index.nearest({"front": flat(50, 3, 0)}) == str(short)


def test_an_item_with_more_views_is_not_nearer_for_that() -> None:
    slant = {view: flat(0.7, 0.7) for view in ("front", "left")}
    opposite = {view: flat(-0.7, -0.7) for view in ("front", "left")}
    straight, away = {"front": flat(1, 0)}, {"front": flat(-1, 0)}
    index = FeatureIndex.build([("slant", slant), ("opposite", opposite), ("straight", straight), ("away", away)])
    assert index.nearest({"front": flat(1, 0), "left": flat(1, 0)}) == "straight"


def test_only_shared_views_are_compared() -> None:
    index = FeatureIndex.build([("a", {"front": grid(0)}), ("b", {"left": grid(1)}), ("c", {"front": grid(2)})])
    assert index.nearest({"front": grid(2), "back": grid(3)}) == "c"
    assert index.nearest({"left": grid(1)}) == "b"
    assert index.nearest({"back": grid(0)}) is None


def test_an_empty_index_has_no_nearest() -> None:
    assert FeatureIndex.build([]).nearest({"front": grid(0)}) is None


@pytest.mark.parametrize("size", [16, 37])
def test_pooling_takes_block_means(size: int) -> None:
    ramp_HWC = np.broadcast_to((np.arange(size) * POOLED // size)[:, None, None], (size, size, 2)).astype(np.float16)
    pooled = pool(ramp_HWC).reshape(POOLED, POOLED, 2)
    np.testing.assert_allclose(pooled[:, 0, 0], [0, 1, 2, 3], atol=0.12)
    assert pool(np.full((size, size, 3), 0.5, np.float16)).tolist() == [0.5] * (POOLED**2 * 3)


def test_a_grid_too_small_to_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller than 4x4"):
        pool(np.zeros((3, 8, 2), np.float16))

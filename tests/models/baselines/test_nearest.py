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

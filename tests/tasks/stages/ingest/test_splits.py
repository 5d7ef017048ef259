from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from tasks.stages.ingest.splits import Split, assign, notices
from tasks.stages.sources import Found, SplitName


def item(label: str, class_name: str = "object", **fields: Any) -> Found:
    return Found((("mesh", label),), label, class_name, "toy", "mesh", None, **fields)


def items(class_name: str, count: int) -> list[Found]:
    return [item(f"{class_name}/{index}", class_name) for index in range(count)]


def counts(splits: dict[str, SplitName], class_name: str = "") -> Counter[str]:
    return Counter(name for group, name in splits.items() if group.startswith(class_name))


def test_shares_of_a_large_class_are_near_what_is_asked_for() -> None:
    found = counts(assign(Split(val=0.2, test=0.1), items("shoes", 20_000)))
    assert found["val"] / 20_000 == pytest.approx(0.2, abs=0.01)
    assert found["test"] / 20_000 == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("size", [7, 10, 20, 40])
def test_every_class_of_seven_or_more_holds_its_shares(seed: int, size: int) -> None:
    splits = assign(Split(seed=seed), [*items("mugs", size), *items("shoes", 30)])
    for name in ("test", "val"):
        assert max(1, 0.75 * 0.15 * size) <= counts(splits, "mugs")[name] <= max(1, 0.15 * size * 4 / 3)


def test_classes_too_small_for_shares_of_their_own_are_drawn_together() -> None:
    every = [found for index in range(40) for found in items(f"class{index:02d}", 2)]
    found = counts(assign(Split(), every))
    assert 9 <= found["test"] <= 16
    assert 9 <= found["val"] <= 16


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, {"train": 1}), (2, {"train": 1, "test": 1}), (3, {"train": 1, "test": 1, "val": 1})],
)
def test_of_very_few_items_one_trains_then_one_tests_then_one_validates(size: int, expected: dict[str, int]) -> None:
    for seed in range(20):
        assert counts(assign(Split(seed=seed), items("mugs", size))) == expected


def test_the_same_seed_gives_the_same_splits_and_another_others() -> None:
    found = items("mugs", 60)
    assert assign(Split(seed=1), found) == assign(Split(seed=1), found[::-1])
    assert assign(Split(seed=1), found) != assign(Split(seed=2), found)


def test_most_groups_keep_their_split_when_objects_come() -> None:
    before = assign(Split(), items("shoes", 400))
    after = assign(Split(), [*items("shoes", 440), *items("mugs", 12)])
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (Split(val=0, test=0), {"train"}),
        (Split(val=0, test=1), {"test"}),
        (Split(val=1, test=0), {"val"}),
        (Split(val=0.5, test=0.5), {"val", "test"}),
    ],
)
def test_shares_of_none_and_all_are_kept(split: Split, expected: set[str]) -> None:
    assert set(assign(split, items("mugs", 30)).values()) == expected


def test_items_of_a_group_are_together_and_count_once() -> None:
    every = [item(f"{name}{index}", group=name) for name in "abcdefghij" for index in range(5)]
    splits = assign(Split(), every)
    assert sorted(splits) == list("abcdefghij")
    assert 1 <= counts(splits)["test"] <= 3


def test_named_splits_come_before_the_draw() -> None:
    split = Split(test=0, val=0, named={"mugs/1*": "test", "7": "val"})
    splits = assign(split, [*items("mugs", 12), item("shoes/x", split="val")])
    assert {group for group, name in splits.items() if name == "test"} == {"mugs/1", "mugs/10", "mugs/11"}
    assert {group for group, name in splits.items() if name == "val"} == {"mugs/7", "shoes/x"}


def test_params_outrank_the_source() -> None:
    every = [item("a", split="train"), item("b", split="train")]
    assert assign(Split(named={"a": "test"}), every) == {"a": "test", "b": "train"}


def test_a_group_that_is_named_for_two_splits_is_a_mistake() -> None:
    every: Iterable[Found] = [item("a", group="g", split="test"), item("b", group="g", split="train")]
    with pytest.raises(ValueError, match="a is named for test and b for train, but they are one group, 'g'"):
        assign(Split(), list(every))


def test_classes_without_test_items_and_patterns_that_fit_nothing_are_told() -> None:
    split = Split(named={"hats/*": "train", "mug/*": "test"})
    every = [*items("hats", 2), *items("mugs", 20)]
    assert notices(split, every, assign(split, every)) == [
        "ingest.split.named: mug/* fits no item",
        "no test item of class hats (2); classes of fewer than 7 objects share one draw: add objects, or see "
        "ingest.split.named",
    ]
    assert notices(Split(), items("mugs", 20), assign(Split(), items("mugs", 20))) == []
    none = Split(test=0)
    assert notices(none, items("mugs", 20), assign(none, items("mugs", 20))) == []

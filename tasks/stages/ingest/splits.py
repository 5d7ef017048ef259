"""Which items are held out: whole groups at a time, a share of each class.

A group's place in the draw depends on its name and the seed alone, so most groups keep their split when objects come or
go. A class is corrected only where chance left it less than three quarters of its share, or more than four thirds.
Classes too small for that are drawn together.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from pydantic import Field, model_validator

from models.params import Block
from tasks.engine.outcome import some_of
from tasks.stages.sources import Found, SplitName
from tasks.stages.sources._patterns import matcher

MOST_CLASSES = 3
"""Classes that a notice names."""


class Split(Block):
    """Shares of the groups that are held out."""

    val: float = Field(0.15, ge=0, le=1)
    """The share that selects among the states of a training."""
    test: float = Field(0.15, ge=0, le=1)
    """The share that is evaluated, and never seen by a training."""
    seed: int = 0
    """Another seed, other groups."""
    named: Mapping[str, SplitName] = Field(default_factory=dict)
    """Splits of items by pattern of their labels, the first match wins: {"mugs/blue*": test}. The shares are drawn from
    the others."""

    @model_validator(mode="after")
    def _leaves_some(self) -> Split:
        if self.val + self.test > 1:
            raise ValueError(f"val + test is {self.val + self.test:g}, over 1")
        return self

    @property
    def enough(self) -> int:
        """Groups of a class from which its shares can be held: one of each is expected."""
        return math.ceil(1 / min((share for share in (self.val, self.test) if share > 0), default=1))


def group_of(item: Found) -> str:
    """The group that an item is split with."""
    return item.group or item.label


def assign(split: Split, items: Collection[Found]) -> dict[str, SplitName]:
    """The split of every group. Raises ValueError where a group's items are named for different splits."""
    splits = _named(split, items)
    by_class: dict[str, list[str]] = defaultdict(list)
    for group, class_name in _classes(items).items():
        if group not in splits:
            by_class[class_name].append(group)
    rest: list[str] = []
    for groups in by_class.values():
        if len(groups) < split.enough:
            rest += groups
        else:
            splits |= _drawn(split, groups)
    return splits | _drawn(split, rest)


def notices(split: Split, items: Collection[Found], splits: Mapping[str, SplitName]) -> list[str]:
    """What people should know: patterns that name nothing, and classes of which nothing is held out for the test."""
    unused = [pattern for pattern in split.named if not any(map(_labels_fit(pattern), items))]
    words = [f"ingest.split.named: {', '.join(unused)} fits no item"] if unused else []
    classes = _classes(items)
    sizes = Counter(classes.values())
    missing = sorted(sizes.keys() - {classes[group] for group, name in splits.items() if name == "test"})
    if missing and split.test > 0:
        listed = some_of([f"{name} ({sizes[name]})" for name in missing], MOST_CLASSES)
        remedy = f"classes of fewer than {split.enough} objects share one draw: add objects, or see ingest.split.named"
        words.append(f"no test item of class {listed}; {remedy}")
    return words


def _classes(items: Iterable[Found]) -> dict[str, str]:
    """The class of each group: that of its first item."""
    classes: dict[str, str] = {}
    for item in items:
        classes.setdefault(group_of(item), item.class_name)
    return classes


def _named(split: Split, items: Iterable[Found]) -> dict[str, SplitName]:
    """Splits of the groups that params or the source name."""
    patterns = [(_labels_fit(pattern), name) for pattern, name in split.named.items()]
    found: dict[str, tuple[SplitName, str]] = {}
    for item in items:
        name = next((name for fits, name in patterns if fits(item)), item.split)
        if name is None:
            continue
        other, label = found.setdefault(group_of(item), (name, item.label))
        if other != name:
            raise ValueError(
                f"{label} is named for {other} and {item.label} for {name}, but they are one group, "
                f"{group_of(item)!r}: name one split for both (ingest.split.named, manifest.json)"
            )
    return {group: name for group, (name, _) in found.items()}


def _labels_fit(pattern: str) -> Callable[[Found], bool]:
    fits = matcher((pattern,))
    return lambda item: fits(item.label)


def _drawn(split: Split, groups: Iterable[str]) -> dict[str, SplitName]:
    """Test first, then val, then train, in the order of the draw."""
    places = sorted((_place(split.seed, group), group) for group in groups)
    below_test = sum(place < split.test for place, _ in places)
    below_val = sum(place < split.test + split.val for place, _ in places)
    spare = len(places) - (split.val + split.test < 1)  # one stays for train, where train has a share
    num_test = _held_to_share(below_test, split.test, len(places), spare)
    num_val = _held_to_share(below_val - below_test, split.val, len(places), spare - num_test)
    groups_in_order = [group for _, group in places]
    splits: dict[str, SplitName] = dict.fromkeys(groups_in_order, "train")
    splits |= dict.fromkeys(groups_in_order[:num_test], "test")
    return splits | dict.fromkeys(groups_in_order[num_test : num_test + num_val], "val")


def _held_to_share(drawn: int, share: float, total: int, most: int) -> int:
    """The number drawn, brought between three quarters and four thirds of what is expected; at most `most`."""
    least = math.ceil(share * total * 3 / 4)
    return max(0, min(max(drawn, least), max(least, int(share * total * 4 / 3)), most))


def _place(seed: int, group: str) -> float:
    """A number in [0, 1) that depends on the group and the seed alone."""
    digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64

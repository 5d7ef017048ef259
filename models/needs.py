"""What a student, a teacher or a baseline asks of an item, by name: things, not files.

A stage that writes such a thing offers it (`tasks.engine.stage.Offer`): which files it lies in, and how they are read.
Planning imports this; it must stay light.

    def needs(params: Params) -> Needs:
        return Needs(given=(TOKENS,), learned=(TEACHER,), if_there=(TRUTH,))

    def example(self, item: Given) -> Example:
        tokens, truth = item(TOKENS), item.get(TRUTH)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from models.fields import Field
    from models.geometry import Mesh
    from models.views import Views

T = TypeVar("T")


@dataclass(frozen=True)
class Need(Generic[T]):
    """Something that an item may have, of type T. `what` completes "it has no ..."."""

    name: str
    what: str


TOKENS: Need[Mapping[str, npt.NDArray[np.float16]]] = Need("tokens", "encoder tokens")
"""The encoder's grids (H, W, C) by view."""
DEPTH: Need[Mapping[str, npt.NDArray[np.uint16]]] = Need("depth", "depth maps")
"""Depth maps (H, W) by view, on the tokens' crop."""
VIEWS: Need[Views] = Need("views", "matted views")
"""The views that students may see, cut out, cropped and square, with their cameras where these are known."""
TRUTH: Need[Mesh] = Need("truth", "true mesh")
TEACHER: Need[Mesh] = Need("teacher", "teacher's mesh")
FIELD: Need[Field] = Need("field", "shape as a field")
"""Signed distances of the true shape, or of the teacher's where there is no truth and the gate accepts it."""


@dataclass(frozen=True)
class Needs:
    """What decides which items qualify, what enters a key, which optional stages run and what `generate` prepares.

    given: what a prediction is made from. learned: what training asks besides. if_there: what training uses of the
    items that have it.
    """

    given: tuple[Need[Any], ...]
    learned: tuple[Need[Any], ...] = ()
    if_there: tuple[Need[Any], ...] = ()

    @property
    def required(self) -> tuple[Need[Any], ...]:
        """What an item must have to be trained on."""
        return (*self.given, *self.learned)

    @property
    def all(self) -> tuple[Need[Any], ...]:
        return (*self.required, *self.if_there)


class Given(Protocol):
    """One item, read lazily. It refuses what was not declared."""

    @property
    def id(self) -> str: ...

    def __call__(self, need: Need[T]) -> T:
        """What is there. Raises LookupError where the item has none, ValueError for what was not declared."""
        ...

    def get(self, need: Need[T]) -> T | None:
        """What is there, or None. Raises ValueError for what was not declared."""
        ...


@dataclass(frozen=True)
class InHand:
    """A `Given` of values that lie in memory: photos made ready by `generate`, toy items of a test."""

    id: str
    values: Mapping[Need[Any], Any]
    declared: tuple[Need[Any], ...]

    def __call__(self, need: Need[T]) -> T:
        found = self.get(need)
        if found is None:
            raise LookupError(f"item {self.id} has no {need.what}")
        return found

    def get(self, need: Need[T]) -> T | None:
        refuse_undeclared(need, self.declared)
        return self.values.get(need)


def refuse_undeclared(need: Need[Any], declared: tuple[Need[Any], ...]) -> None:
    """Raises ValueError for a need that is not among the declared ones: what is read must be in the key."""
    if need not in declared:
        names = ", ".join(known.name for known in declared)
        raise ValueError(f"{need.name!r} is read and not declared; its `needs` name: {names or 'nothing'}")

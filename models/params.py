"""The base of every params block."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """A block of params.yaml: frozen, unknown keys are errors, numbers are finite; its fields' docstrings are shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    USE_ONLY: ClassVar[frozenset[str]] = frozenset()
    """Fields of a student that only its predictions read: they enter evaluation's keys and not training's."""
    LOCAL: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change a result (an interpreter's path): they stay out of the key."""

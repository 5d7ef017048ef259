"""The base of every params block."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """A block of params.yaml: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    LOCAL: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change a result (an interpreter's path): they stay out of the key."""

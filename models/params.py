"""The base of every params block."""

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """A block of params.yaml: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

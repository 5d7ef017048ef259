"""A folder's `manifest.json`: a list of {file, licence, up, class, what, split}; other keys are not ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, field_validator

from models.normalise import UpAxis
from tasks.stages.sources import SplitName

MANIFEST = "manifest.json"


class ManifestEntry(BaseModel):
    """What a manifest may say of a file."""

    licence: str | None = None
    up: UpAxis | None = None
    class_name: str | None = Field(None, alias="class")
    what: str | None = None
    split: SplitName | None = None

    @field_validator("up", mode="before")
    @classmethod
    def _small_letter(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


def read_manifest(folder: Path) -> dict[str, ManifestEntry]:
    """Entries by file; none where there is no manifest. Raises ValueError for one that is no such list."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        return {entry["file"]: ManifestEntry.model_validate(entry) for entry in json.loads(path.read_bytes())}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a list of {{file, licence, up, class, what, split}}; "
            f"mend it, or rename it if it is something else ({type(error).__name__}: {error})"
        ) from error

"""Readable names of items."""

from __future__ import annotations

from tasks.collections.records import RecordLines, read_items
from tasks.workspace import Workspace


class Labels:
    """Readable labels of items, from ingest's records; read only when somebody asks."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.items_file("ingest")
        self._records: RecordLines | None = None

    def get(self, item_id: str) -> str | None:
        """The label of an item that ingest has published."""
        if self._records is None:
            self._records = read_items(self._path)
        record = self._records.get(item_id)
        return str(record.facts.get("label", item_id)) if record else None

"""failures.json and metrics.json, read by whoever shows them. The run that writes them needs neither."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.collections.files import write_if_changed
from tasks.collections.records import canonical

log = logging.getLogger(__name__)

ENTRY = {"id", "label", "state", "class", "message"}


class DamagedSummary(ValueError):
    """A failures.json or metrics.json that was cut short or changed by hand."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is damaged; `lostwax run --until {path.parent.name}` writes it anew")


def read_failures(path: Path) -> list[Mapping[str, Any]]:
    """An entry for each item that failed, was skipped or is blocked; none without a file. Raises DamagedSummary."""
    entries = _read(path, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and entry.keys() >= ENTRY for entry in entries):
        raise DamagedSummary(path)
    return entries


def write_failures(path: Path, entries: Iterable[Mapping[str, Any]]) -> bool:
    """One line an entry, in the order of the ids; whether the file changed."""
    rows = b",\n".join(canonical(entry) for entry in sorted(entries, key=lambda entry: str(entry["id"])))
    return write_if_changed(path, b"[\n" + rows + b"\n]\n" if rows else b"[]\n")


def known_failures(path: Path) -> list[Mapping[str, Any]]:
    """The same where it can be done without: a damaged file is said, and tells of nothing."""
    try:
        return read_failures(path)
    except DamagedSummary as damaged:
        log.warning("%s", damaged)
        return []


def read_metrics(path: Path) -> Mapping[str, Any]:
    """Counts and quality; nothing where the file is absent. Raises DamagedSummary."""
    metrics = _read(path, {})
    if not isinstance(metrics, dict):
        raise DamagedSummary(path)
    return metrics


def known_metrics(path: Path) -> Mapping[str, Any]:
    """The same where it can be done without."""
    try:
        return read_metrics(path)
    except DamagedSummary as damaged:
        log.warning("%s", damaged)
        return {}


def _read(path: Path, absent: Any) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return absent
    except ValueError as error:
        raise DamagedSummary(path) from error

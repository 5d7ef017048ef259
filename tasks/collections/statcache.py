"""Digests of files by size, times and inode, one cache a workspace: no file is read twice while it does not change."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from tasks.collections.files import file_sha256

SCHEMA = """create table if not exists files (
    path text primary key, size integer, mtime_ns integer, ctime_ns integer, inode integer, sha256 text not null)
    without rowid"""
TICK_NS = 20_000_000
"""A file changed less than this ago may change again without its times showing it: the kernel's clock is coarse."""
Entry = tuple[int, int, int, int, str]


class StatCache:
    """`digest(path)` is the file's sha256; `save()` keeps what was learnt. Several runs may use it at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._database.execute("pragma journal_mode=wal")
        self._database.execute("pragma synchronous=normal")
        self._database.execute(SCHEMA)
        rows = self._database.execute("select path, size, mtime_ns, ctime_ns, inode, sha256 from files")
        self._known: dict[str, Entry] = {row[0]: row[1:] for row in rows}
        self._learnt: dict[str, Entry] = {}

    def digest(self, path: Path) -> str:
        """sha256 (64 hex) of the file's bytes. Raises OSError."""
        name, signature = _name(path), _signature(path)
        known = self._known.get(name)
        if known and known[:4] == signature:
            return known[4]
        settled = time.time_ns() - signature[2] > TICK_NS
        sha256 = file_sha256(path)
        if settled:
            self._known[name] = self._learnt[name] = (*signature, sha256)
        return sha256

    def forget(self, path: Path | None = None) -> None:
        """Trust nothing, or only not this file: its next digest reads it, in this run and in the next."""
        for name in [_name(path)] if path else list(self._known):
            self._known.pop(name, None)
            self._learnt[name] = (0, 0, 0, 0, "")

    def save(self) -> None:
        if self._learnt:
            self._database.execute("begin immediate")
            with self._database:
                self._database.executemany(
                    "insert or replace into files values (?, ?, ?, ?, ?, ?)",
                    ((name, *entry) for name, entry in self._learnt.items()),
                )
            self._learnt.clear()

    def close(self) -> None:
        self.save()
        self._database.close()


def _name(path: Path) -> str:
    """The path as SQLite can hold it: a name need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _signature(path: Path) -> tuple[int, int, int, int]:
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

"""Digests of files by size, times and inode, one cache a workspace: no file is read twice while it does not change."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tasks.collections.database import open_database, set_aside_if_damaged
from tasks.collections.files import file_sha256

SCHEMA = """create table if not exists files (
    path text primary key, size integer, mtime_ns integer, ctime_ns integer, inode integer, sha256 text not null)
    without rowid"""
LOSS = "files are read again where their digests are asked for"
TICK_NS = 20_000_000
"""A file changed less than this ago may change again without its times showing it: the kernel's clock is coarse."""
Entry = tuple[int, int, int, int, str]
UNKNOWN: Entry = (0, 0, 0, 0, "")
SELECT = "select size, mtime_ns, ctime_ns, inode, sha256 from files where path = ?"
INSERT = "insert or replace into files values (?, ?, ?, ?, ?, ?)"
MAX_UNSAVED = 20_000


class StatCache:
    """`digest(path)` is the file's sha256; `save()` keeps what was learnt. Several runs may use it at once.

    In a workspace that may only be read, what was learnt is forgotten.
    """

    def __init__(self, path: Path) -> None:
        self._learnt: dict[str, Entry] = {}
        self._database = open_database(path, SCHEMA, reading=True, loss=LOSS)

    @staticmethod
    def set_aside_if_damaged(path: Path) -> bool:
        """Look through the whole cache; whether it was damaged. A new one is begun then."""
        return set_aside_if_damaged(path, LOSS)

    def digest(self, path: Path) -> str:
        """sha256 (64 hex) of the file's bytes. Raises OSError."""
        name, signature = _name(path), _signature(str(path))
        known = self._learnt.get(name) or self._database.execute(SELECT, (name,)).fetchone()
        if known and known[:4] == signature:
            return str(known[4])
        settled = time.time_ns() - signature[2] > TICK_NS
        sha256 = file_sha256(path)
        if settled:
            self._learn(name, (*signature, sha256))
        return sha256

    def forget(self, path: Path) -> None:
        """Do not trust this file: its next digest reads it, in this run and in the next."""
        self._learn(_name(path), UNKNOWN)

    def save(self) -> None:
        if self._learnt:
            self._database.execute("begin immediate")
            with self._database:
                self._database.executemany(INSERT, ((name, *entry) for name, entry in self._learnt.items()))
            self._learnt.clear()

    def close(self) -> None:
        self.save()
        self._database.close()

    def _learn(self, name: str, entry: Entry) -> None:
        self._learnt[name] = entry
        if len(self._learnt) >= MAX_UNSAVED:
            self.save()


def _name(path: Path) -> str:
    """The path as SQLite can hold it: it need not be UTF-8."""
    name = str(path)
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _signature(name: str) -> tuple[int, int, int, int]:
    stat = os.stat(name)  # noqa: PTH116  # asked of every file of an inbox: a Path costs twice as much
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)

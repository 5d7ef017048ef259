"""SQLite files of a workspace: begun anew where they are damaged, read where they may not be written."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

log = logging.getLogger(__name__)

AS_OTHERS_WRITE_IT, AS_IT_LIES_THERE = "mode=ro", "mode=ro&immutable=1"
"""How to read a file that this process may not write; the first needs the files that its writer keeps beside it."""
WAIT_S = 30
"""How long another writer is waited for."""


def open_database(path: Path, schema: str, *, reading: bool, loss: str) -> sqlite3.Connection:
    """The database, made where it is missing, its tables too. A damaged one is set aside. loss: what goes with it.

    reading: where it may not be written, a copy in memory will do; what is written to that is forgotten. Otherwise
    raises OSError and sqlite3.Error.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(path, schema)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            _set_aside(path, error, loss)
            return _connect(path, schema)
    except (OSError, sqlite3.OperationalError):
        if not reading:
            raise
        return _copy(path, schema)


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is broken; a full disk or a lock is an error of another class."""
    return type(error) is sqlite3.DatabaseError


def set_aside_if_damaged(path: Path, loss: str) -> bool:
    """Look through a whole file, and set it aside if it is damaged; whether it was."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(path, WAIT_S)) as database:
            (found,) = database.execute("pragma quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        found = str(error)
    if found != "ok":
        _set_aside(path, found, loss)
    return bool(found != "ok")


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, WAIT_S, isolation_level=None)
    try:
        return _prepare(database, schema)
    except sqlite3.DatabaseError:
        database.close()
        raise


def _prepare(database: sqlite3.Connection, schema: str) -> sqlite3.Connection:
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=normal")
    database.executescript(schema)
    return database


def _copy(path: Path, schema: str) -> sqlite3.Connection:
    """In memory; empty where the file is absent or damaged."""
    for how in (AS_OTHERS_WRITE_IT, AS_IT_LIES_THERE):
        copy = sqlite3.connect(":memory:", isolation_level=None)
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)) as source:
                source.backup(copy)
            return _prepare(copy, schema)
        except sqlite3.DatabaseError:
            copy.close()
    return _prepare(sqlite3.connect(":memory:", isolation_level=None), schema)


def _set_aside(path: Path, problem: object, loss: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    log.warning("%s was damaged (%s) and is now %s; a new one is begun: %s", path, problem, aside.name, loss)

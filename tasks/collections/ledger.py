"""What happened: attempts with their class, seconds and memory. Local; only history is lost with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tasks.collections.database import open_database, set_aside_if_damaged

SCHEMA = """
create table if not exists attempts (
    id text not null, key text not null, outcome text not null, message text not null default '',
    detail text not null default '', seconds real, peak_mb real, worker text, exit_code integer, figures text,
    at text not null default (strftime('%Y-%m-%dT%H:%M:%SZ')), forgiven integer not null default 0);
create index if not exists attempts_by_item on attempts (id, key);
create table if not exists reopened (id text not null, key text not null, primary key (id, key)) without rowid;
create table if not exists recipes (recipe text primary key, content text not null) without rowid;
create table if not exists published (list text primary key, sha256 text not null) without rowid;
create table if not exists stage_runs (
    at text not null default (strftime('%Y-%m-%dT%H:%M:%SZ')), recipe text not null, seconds real, computed integer,
    exit_code integer, message text, published integer not null default 0);
"""
FILE = "ledger.db"
LOSS = "of earlier attempts only those count that failures.json tells of"
DONE = "done"
COLUMNS = ("id", "key", "outcome", "message", "detail", "seconds", "peak_mb", "worker", "exit_code", "figures")
INSERT = f"insert into attempts ({', '.join(COLUMNS)}) values ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
FAILED = f"select {', '.join(COLUMNS)} from attempts where outcome != ? and not forgiven order by rowid"  # noqa: S608


@dataclass(frozen=True)
class Attempt:
    """One try at an item. outcome: "done" or a class of failure (bad_input, killed, ...)."""

    id: str
    key: str
    outcome: str
    message: str = ""
    detail: str = ""
    seconds: float | None = None
    peak_mb: float | None = None
    worker: str = ""
    exit_code: int | None = None
    figures: Mapping[str, Any] | None = None
    """What else was measured: a hosted teacher's settings, rung, GPU and peaks."""

    def row(self) -> tuple[object, ...]:
        """Its values in the order of COLUMNS."""
        *values, figures = (getattr(self, column) for column in COLUMNS)
        return (*values, json.dumps(figures) if figures else None)

    @staticmethod
    def from_row(row: Sequence[Any]) -> Attempt:
        """The inverse of row."""
        *values, figures = row
        named = dict(zip(COLUMNS, values, strict=False))
        return Attempt(**named, figures=json.loads(figures) if figures else None)


class Ledger:
    """The ledger of one stage. One writer (the holder of the stage), any number of readers."""

    def __init__(self, local: Path, *, reading: bool = False) -> None:
        """reading: nothing will be written; where nothing may be, a copy is read."""
        self._database = open_database(local / FILE, SCHEMA, reading=reading, loss=LOSS)
        if "figures" not in [row[1] for row in self._database.execute("pragma table_info(attempts)")]:
            self._database.execute("alter table attempts add column figures text")  # a ledger of lostwax 0.1.0

    @staticmethod
    def set_aside_if_damaged(local: Path) -> bool:
        """Look through the whole ledger; whether it was damaged. A new one is begun then."""
        return set_aside_if_damaged(local / FILE, LOSS)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Write attempts down, in one transaction."""
        if not attempts:
            return
        self._database.execute("begin")
        with self._database:
            self._database.executemany(INSERT, [attempt.row() for attempt in attempts])

    def failures(self) -> dict[tuple[str, str], list[Attempt]]:
        """Unforgiven failed attempts by (id, key), oldest first."""
        found: dict[tuple[str, str], list[Attempt]] = {}
        for row in self._database.execute(FAILED, (DONE,)):
            attempt = Attempt.from_row(row)
            found.setdefault((attempt.id, attempt.key), []).append(attempt)
        return found

    def figures(self, last: int = 2000) -> list[dict[str, Any]]:
        """What was measured in the last attempts that measured something, oldest first."""
        rows = self._database.execute(
            "select figures from attempts where figures is not null order by rowid desc limit ?", (last,)
        ).fetchall()
        return [json.loads(row[0]) for row in reversed(rows)]

    def reopen(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Have finished items, given as (id, key), made again at a better rung. They stay until that is done."""
        self._database.executemany("insert or ignore into reopened values (?, ?)", pairs)

    def reopened(self) -> set[tuple[str, str]]:
        """(id, key) of the finished items that are to be made again."""
        return set(self._database.execute("select id, key from reopened"))

    def settle(self, pairs: Iterable[tuple[str, str]]) -> None:
        """The opposite of reopen."""
        self._database.executemany("delete from reopened where id = ? and key = ?", pairs)

    def history(self, item_id: str) -> list[dict[str, object]]:
        """Every attempt at an item, oldest first, for people."""
        cursor = self._database.execute("select * from attempts where id = ? order by rowid", (item_id,))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def forgive(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Re-open items, given as (id, key): their failed attempts no longer count."""
        self._database.executemany(
            "update attempts set forgiven = 1 where id = ? and key = ? and outcome != ?",
            ((item_id, key, DONE) for item_id, key in pairs),
        )

    def is_done(self, item_id: str, key: str) -> bool:
        row = self._database.execute(
            "select 1 from attempts where id = ? and key = ? and outcome = ? limit 1", (item_id, key, DONE)
        ).fetchone()
        return row is not None

    def times_done(self) -> dict[tuple[str, str], int]:
        """How often each (id, key) was finished. Anything above 1 is a broken promise."""
        rows = self._database.execute(
            "select id, key, count(*) from attempts where outcome = ? group by id, key", (DONE,)
        )
        return {(item_id, key): count for item_id, key, count in rows}

    def seconds_per_item(self) -> float | None:
        """Median seconds of the last 1,000 finished items; None before the first."""
        rows = self._database.execute(
            "select seconds from attempts where outcome = ? and seconds is not null order by rowid desc limit 1000",
            (DONE,),
        ).fetchall()
        return float(sorted(row[0] for row in rows)[len(rows) // 2]) if rows else None

    def seconds_by_key(self) -> dict[str, float]:
        """Seconds of finished attempts, the last of each key; of those that were measured."""
        rows = self._database.execute(
            "select key, seconds from attempts where outcome = ? and seconds is not null order by rowid", (DONE,)
        )
        return dict(rows.fetchall())

    def add_recipe(self, recipe: str, content: object) -> None:
        self._database.execute(
            "insert or ignore into recipes values (?, ?)", (recipe, json.dumps(content, sort_keys=True))
        )

    def recipe(self, recipe: str) -> dict[str, object] | None:
        """What a recipe stands for (params, versions, weights), or None where this machine never saw it."""
        row = self._database.execute("select content from recipes where recipe = ?", (recipe,)).fetchone()
        return json.loads(row[0]) if row else None

    def begin_run(self, recipe: str) -> int:
        """Write down that a run begins; returns its number."""
        cursor = self._database.execute("insert into stage_runs (recipe) values (?)", (recipe,))
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def end_run(
        self, number: int, *, seconds: float, computed: int, exit_code: int, message: str, published: bool
    ) -> None:
        self._database.execute(
            "update stage_runs set seconds = ?, computed = ?, exit_code = ?, message = ?, published = ?"
            " where rowid = ?",
            (seconds, computed, exit_code, message, published, number),
        )

    def last_run(self) -> dict[str, object] | None:
        """The last run that came to an end."""
        cursor = self._database.execute(
            "select * from stage_runs where exit_code is not null order by rowid desc limit 1"
        )
        names = [column[0] for column in cursor.description]
        row = cursor.fetchone()
        return dict(zip(names, row, strict=True)) if row else None

    def note_published(self, items_file: Path, sha256: str) -> None:
        """Remember the digest of a list of items that was published. items_file: relative to the workspace."""
        if sha256 != self.published(items_file):
            self._database.execute("insert or replace into published values (?, ?)", (str(items_file), sha256))

    def published(self, items_file: Path) -> str | None:
        """sha256 of the list as it was published last on this machine."""
        row = self._database.execute("select sha256 from published where list = ?", (str(items_file),)).fetchone()
        return str(row[0]) if row else None

    def unpublished_recipe(self) -> str | None:
        """The recipe of the last run, where that run has not published what it finished."""
        row = self._database.execute("select recipe, published from stage_runs order by rowid desc limit 1").fetchone()
        return str(row[0]) if row and not row[1] else None

"""A database that may only be read is read, as its writer left it; what is written is forgotten."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tasks.collections import database
from tasks.collections.database import open_database
from tasks.collections.statcache import StatCache

SCHEMA = "create table if not exists words (word text)"
SELECT, INSERT = "select word from words order by word", "insert into words values (?)"


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite as it answers where nothing may be written."""
    connect = sqlite3.connect

    def refuse_to_write(path: object, *limits: float, **options: object) -> sqlite3.Connection:
        if str(path) == ":memory:" or options.get("uri"):
            return connect(path, *limits, **options)  # type: ignore[call-overload, no-any-return]
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(database.sqlite3, "connect", refuse_to_write)


def make(path: Path) -> None:
    with closing(open_database(path, SCHEMA, reading=False, loss="all words")) as made:
        made.execute(INSERT, ("kept",))


def test_a_copy_is_read_where_nothing_may_be_written(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "words.db"
    make(path)
    before = path.read_bytes()
    request.getfixturevalue("read_only")
    with closing(open_database(path, SCHEMA, reading=True, loss="all words")) as copy:
        copy.execute(INSERT, ("forgotten",))
        assert copy.execute(SELECT).fetchall() == [("forgotten",), ("kept",)]
    assert path.read_bytes() == before


def test_what_a_living_writer_has_not_yet_merged_is_read_too(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = tmp_path / "words.db"
    with closing(open_database(path, SCHEMA, reading=False, loss="all words")) as writer:
        writer.execute(INSERT, ("fresh",))
        request.getfixturevalue("read_only")
        with closing(open_database(path, SCHEMA, reading=True, loss="all words")) as copy:
            assert copy.execute(SELECT).fetchall() == [("fresh",)]


def test_an_absent_database_is_an_empty_one_to_readers(tmp_path: Path, read_only: None) -> None:
    with closing(open_database(tmp_path / "absent.db", SCHEMA, reading=True, loss="all words")) as empty:
        assert empty.execute(SELECT).fetchall() == []


def test_a_writer_is_refused(tmp_path: Path, read_only: None) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        open_database(tmp_path / "words.db", SCHEMA, reading=False, loss="all words")


def test_a_cache_of_digests_that_cannot_be_written_still_answers(tmp_path: Path, read_only: None) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    cache = StatCache(tmp_path / "files.db")
    assert cache.digest(file).startswith("e3b0c442")
    cache.close()
    assert not (tmp_path / "files.db").exists()

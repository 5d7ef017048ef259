"""Records: equal facts are equal bytes, and nothing is lost on the way."""

import json

import pytest

from tasks.collections.records import canonical, from_line, identity, read_items, to_line
from tests.support import TOY_KEY, make_record


def test_a_record_survives_its_line():
    facts = {"label": "Schuh ä", "views": ["front"]}
    record = make_record({"mesh.glb": b"12", "a.png": b""}, facts=facts, quality={"chamfer": 0.25}, frame="y-up")
    assert from_line(to_line(record)) == record


def test_equal_facts_in_another_order_are_equal_bytes():
    one = make_record({"a": b"1", "b": b"2"}, facts={"x": 1, "y": {"p": 1, "q": 2}})
    other = make_record({"b": b"2", "a": b"1"}, facts={"y": {"q": 2, "p": 1}, "x": 1})
    assert to_line(one) == to_line(other)


def test_identity_is_read_without_parsing_the_rest():
    line = to_line(make_record({}, item_id="train"))
    assert identity(line) == ("train", TOY_KEY)
    assert identity(line[:100]) == ("train", TOY_KEY)
    with pytest.raises(ValueError, match="not a record"):
        identity(b'{"key":"x","id":"y"}')


def test_a_line_is_one_line_of_json_without_time_or_place():
    line = to_line(make_record({"a": b"1"}, facts={"text": "two\nlines"}))
    assert line.count(b"\n") == 1
    assert set(json.loads(line)) == {"schema", "id", "key", "recipe", "files", "frame", "quality", "rung", "facts"}


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_figures_that_are_no_numbers_are_refused(figure):
    with pytest.raises(ValueError, match="JSON"):
        canonical({"chamfer": figure})


@pytest.mark.parametrize("line", [b"{}", b"[]", b'{"schema": 2}', b'{"schema": 1, "id": "x"}', b"\xff", b"{"])
def test_what_is_no_record_of_this_schema_is_refused(line):
    with pytest.raises(ValueError):
        from_line(line)


def test_published_records_are_found_by_id_and_absent_files_are_empty(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"".join(to_line(make_record({}, item_id=item_id)) for item_id in ("a", "b")))
    records = read_items(path)
    assert list(records) == ["a", "b"]
    assert records["b"].id == "b"
    assert "c" not in records
    assert len(read_items(tmp_path / "absent")) == 0

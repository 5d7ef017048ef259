"""Records: equal facts are equal bytes, and nothing is lost on the way."""

import json
import os
import random

import pytest

from tasks.collections.records import DamagedList, canonical, from_line, identity, read_items, to_line
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


@pytest.fixture
def published(tmp_path):
    """An items.jsonl of 500 items, every tenth of them large."""
    path = tmp_path / "toy" / "items.jsonl"
    path.parent.mkdir()
    facts = [{"text": "x" * (40_000 if number % 10 == 0 else number)} for number in range(500)]
    records = [make_record({}, item_id=f"{2 * number:06d}", facts=fact) for number, fact in enumerate(facts)]
    path.write_bytes(b"".join(map(to_line, records)))
    return path


def test_records_of_a_published_list_are_found_in_any_order(published):
    items, rng = read_items(published), random.Random(0)
    numbers = [*range(-1, 1001), *rng.sample(range(1000), 1000)]
    for number in numbers:
        item_id = f"{number:06d}"
        there = number % 2 == 0 and 0 <= number < 1000
        assert (item_id in items) == there
        assert (items.get(item_id) is not None) == there
    assert len(items) == 500
    assert list(items) == [record.id for record in items.values()] == [item_id for item_id, _ in items.items()]
    assert items["000020"].facts == {"text": "x" * 40_000}
    with pytest.raises(KeyError):
        items["000021"]


def test_whoever_asks_in_order_reads_the_list_once(published, monkeypatch):
    num_bytes = 0

    def counting(descriptor, size, offset):
        nonlocal num_bytes
        data = pread(descriptor, size, offset)
        num_bytes += len(data)
        return data

    pread = os.pread
    monkeypatch.setattr(os, "pread", counting)
    items = read_items(published)
    assert sum(f"{number:06d}" in items for number in range(1000)) == 500
    assert num_bytes < 3 * published.stat().st_size


def test_a_list_that_is_replaced_while_it_is_read_does_not_change(published):
    items = read_items(published)
    assert "000000" in items
    published.with_name("new").write_bytes(b"")
    published.with_name("new").rename(published)
    assert len(items) == 500
    assert "000998" in items
    assert len(read_items(published)) == 0


@pytest.mark.parametrize(
    ("damage", "offset"),
    [
        (lambda lines: [*lines[:3], lines[3][:-1]], 3),
        (lambda lines: [lines[0], b"{}\n", lines[2]], 1),
        (lambda lines: [lines[1], lines[0]], 1),
        (lambda lines: [lines[0], lines[0]], 1),
    ],
)
def test_a_damaged_list_is_told_with_the_line_at_fault_and_the_remedy(published, damage, offset):
    lines = damage(published.read_bytes().splitlines(keepends=True))
    published.write_bytes(b"".join(lines))
    begin = sum(map(len, lines[:offset]))
    with pytest.raises(DamagedList, match=rf"is damaged at byte {begin}; `lostwax run --until toy` writes it anew"):
        list(read_items(published).items())

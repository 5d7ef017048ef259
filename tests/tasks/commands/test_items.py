"""`explain`, `show` and `retry`: which item is meant, and what is said of one that failed."""

import json

import pytest

from tasks.collections.records import to_line
from tasks.commands.items import explain, find_item, show
from tasks.params import Params
from tests.support import make_record, make_workspace

STAGES = ("ingest", "views", "matte")
LABELS = {"a1b2c3d4": "shoes/red-0001", "a1b2ffff": "shoes/red-0002", "0c0c0c0c": "chairs/oak"}
FAILED = {"id": "deadbeef", "label": "shoes/torn", "state": "exhausted", "class": "bad_input", "message": "cut short"}


@pytest.fixture
def workspace(tmp_path):
    """Three items that ingest has published, and one that failed there."""
    made = make_workspace(tmp_path)
    made.artifacts("ingest").mkdir(parents=True)
    records = [make_record({}, item_id=item_id, facts={"label": label}) for item_id, label in sorted(LABELS.items())]
    made.items_file("ingest").write_bytes(b"".join(map(to_line, records)))
    made.failures_file("ingest").write_text(json.dumps([FAILED]))
    return made


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("a1b2c3d4", "a1b2c3d4"),
        ("0c0c", "0c0c0c0c"),
        ("shoes/red-0002", "a1b2ffff"),
        ("chairs/o", "0c0c0c0c"),
        ("shoes/torn", "deadbeef"),
        ("shoes/to", "deadbeef"),
        ("dead", "deadbeef"),
    ],
)
def test_an_item_is_named_by_id_label_or_the_beginning_of_one_also_where_it_failed(workspace, text, item):
    assert find_item(workspace, text, STAGES) == item


def test_a_beginning_of_several_items_is_answered_with_them(workspace):
    several = r"means 2 items: shoes/red-0001 \(a1b2c3d4\), shoes/red-0002 \(a1b2ffff\); give more of it"
    for text in ("shoes/red", "a1b2"):
        with pytest.raises(ValueError, match=several):
            find_item(workspace, text, STAGES)


def test_an_unknown_item_is_answered_with_the_nearest_labels(workspace):
    with pytest.raises(ValueError, match="unknown item 'chair/oka' among 4; did you mean chairs/oak"):
        find_item(workspace, "chair/oka", STAGES)
    with pytest.raises(ValueError, match=r"unknown item 'zzzz' among 4$"):
        find_item(workspace, "zzzz", STAGES)


def test_explain_tells_why_an_item_failed_at_ingest(workspace):
    ingest, views, _ = explain(workspace, Params({}), {}, "deadbeef", STAGES)
    assert (ingest.state, ingest.why) == ("exhausted", "cut short")
    assert (views.state, views.why) == ("absent", "ingest has not brought it here")


def test_show_tells_why_there_is_nothing_of_an_item(workspace, tmp_path):
    with pytest.raises(ValueError, match="nothing to show of item deadbeef; ingest: bad_input: cut short"):
        show(workspace, "deadbeef", STAGES, tmp_path / "out")

"""The figures of the terminal and of the page come from one computation, over the same items."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flows.results import results_tables
from models.metrics import Protocol
from tasks.collections.records import Record
from tasks.stages.evaluate.methods import record_id
from tasks.stages.evaluate.summary import summarise
from tasks.stages.report.figures import Scores, headline
from tasks.workspace import Workspace
from tests.support import make_record

ALL_METRICS = ("chamfer", "fscore", "normal_consistency", "iou")


def records(item_id: str, **chamfers: float) -> list[Record]:
    """An evaluated item with these Chamfer distances, by method."""
    made = []
    for method, value in {**chamfers, "floor": 0.007}.items():
        quality = dict.fromkeys(ALL_METRICS, 0.5) | {"chamfer": value}
        facts = {"item": item_id, "method": method, "basis": "truth", "class": item_id, "kind": "mesh"}
        made.append(make_record({}, item_id=record_id(item_id, method), quality=quality, facts=facts))
    return made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two evaluated items have a class mean shape; a third, the worst by far, is the only one of its class."""
    made = [
        *records("shoe", student=0.02, mean_shape=0.05, teacher=0.01),
        *records("boot", student=0.04, mean_shape=0.05),
        *records("lamp", student=0.30, teacher=0.20),
    ]
    workspace = Workspace(tmp_path)
    workspace.artifacts("evaluate").mkdir(parents=True)
    metrics = summarise(made, "test", Protocol(), seed=0)
    workspace.metrics_file("evaluate").write_text(json.dumps(metrics))
    return workspace


def last_column(workspace: Workspace) -> dict[str, str]:
    (table,) = results_tables(workspace)
    first, *_, last = table.columns
    return dict(zip(map(str, first.cells), map(str, last.cells), strict=True))


def test_methods_are_set_against_the_mean_shape_on_the_items_that_have_both(workspace: Workspace) -> None:
    against = last_column(workspace)
    assert against["student"] == "-40% (2 items)"
    assert against["teacher"] == "-80% (1 items)"
    assert against["class mean shape"] == ""


def test_the_page_says_the_same_as_the_terminal(workspace: Workspace) -> None:
    words = re.sub(r"<[^>]+>", "", headline(Scores.load(workspace.metrics_file("evaluate"), "test")))
    assert "is 40 % below the class mean shape’s 0.0500 on the 2 items that have one" in words


def test_without_a_mean_shape_nothing_is_set_against_it(workspace: Workspace) -> None:
    metrics = summarise(records("lamp", student=0.3, teacher=0.2), "test", Protocol(), seed=0)
    workspace.metrics_file("evaluate").write_text(json.dumps(metrics))
    assert metrics["against_mean_shape"] == {}
    assert set(last_column(workspace).values()) == {""}


def test_both_comparisons_pair_the_same_items(workspace: Workspace) -> None:
    metrics = json.loads(workspace.metrics_file("evaluate").read_text())
    assert metrics["comparison"]["mean_shape"] == metrics["against_mean_shape"]["student"]
    assert metrics["comparison"]["teacher"]["ratio"] == pytest.approx(0.32 / 0.21, abs=1e-6)
    assert metrics["comparison"]["teacher"]["num_items"] == 2


def test_items_without_truth_have_a_table_of_proxies(workspace: Workspace) -> None:
    photo = []
    for method, value in {"student": 0.0887, "mean_shape": 0.1}.items():
        facts = {"item": "cup", "method": method, "basis": "proxy", "class": "cup", "kind": "mesh"}
        quality = {"proxy_chamfer_to_teacher": value}
        photo.append(make_record({}, item_id=record_id("cup", method), quality=quality, facts=facts))
    metrics = summarise(photo, "test", Protocol(), seed=0)
    workspace.metrics_file("evaluate").write_text(json.dumps(metrics))
    (table,) = results_tables(workspace)
    headers = [str(column.header) for column in table.columns]
    assert headers == ["1 item without truth, by proxies", "Chamfer to teacher"]
    assert last_column(workspace) == {"student": "0.0887", "class mean shape": "0.1000"}


def test_items_with_and_without_truth_have_a_table_each(workspace: Workspace) -> None:
    metrics = json.loads(workspace.metrics_file("evaluate").read_text())
    metrics["proxy"] = {"num_items": 2, "student": {"num_items": 2, "proxy_silhouette_iou": 0.9}}
    workspace.metrics_file("evaluate").write_text(json.dumps(metrics))
    assert [str(table.columns[0].header) for table in results_tables(workspace)] == [
        "3 test items",
        "2 items without truth, by proxies",
    ]


def test_nothing_evaluated_has_no_table(workspace: Workspace) -> None:
    workspace.metrics_file("evaluate").write_text(json.dumps(summarise([], "test", Protocol(), seed=0)))
    assert results_tables(workspace) == []
    workspace.metrics_file("evaluate").unlink()
    assert results_tables(workspace) == []

"""A student of a new kind, brought by another package, touches no other module: it goes through every stage."""

import json

import pytest

from tasks.engine.outcome import OK
from tasks.order import ORDER
from tasks.workspace import Workspace
from tests.support import make_workspace, run_module, run_task

PARAMS = {
    "run": {"workers": 1},
    "ingest": {"sources": [{"source": "generated", "count": 8}], "split": {"val": 0.2, "test": 0.3}},
    "views": {"size_px": 48},
    "matte": {"size_px": 48},
    "train": {"student": "sizer", "epochs": 3, "variants": {"wide": {"students.sizer.width": 16}}},
    "students": {"sizer": {"width": 8}},
    "evaluate": {"baselines": [], "num_points": 500, "iou_resolution": 16},
    "report": {"strip_views": 2, "strip_size_px": 32, "num_items": 1},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("toy"), PARAMS)
    for stage in ORDER:
        finished = run_task(stage, workspace)
        assert finished.exit_code == OK, f"{stage}: {finished.stderr[-2000:]}"
    return workspace


def cli(workspace: Workspace, *arguments: str):
    return run_module("flows.cli", *arguments, "--workspace", str(workspace.root))


def test_it_is_trained_evaluated_and_compared_with_its_variant(workspace):
    metrics = json.loads(workspace.metrics_file("evaluate").read_text())
    assert metrics["metric"] == "size_error"
    assert 0 < metrics["test"]["student"]["size_error"] < 1
    assert set(metrics["comparison"]) == {"wide"}
    trained = json.loads(workspace.metrics_file("train").read_text())
    assert trained["selected_by"] == "size_error"
    assert trained["variants"]["wide"]["num_parameters"] > trained["num_parameters"]


def test_it_is_listed_with_what_sets_it_apart(workspace):
    listed = json.loads(cli(workspace, "students", "--json").stdout)["students"]
    assert [student["names"] for student in listed] == [["train"], ["wide"]]
    assert listed[1]["settings"] == {"students.sizer.width": 16}
    assert "size_error" in listed[0]["evaluated"]


def test_it_is_pictured(workspace):
    page = (workspace.artifacts("report") / "index.html").read_text()
    assert "Size error" in page
    assert "wide, 2 views around it" in page


def test_it_generates_in_its_own_format_and_says_which(workspace, tmp_path):
    from PIL import Image

    photo = tmp_path / "shoe.png"
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(photo)
    with Image.open(photo) as image:
        image.paste((200, 60, 30, 255), (10, 20, 54, 44))
        image.save(photo)
    finished = cli(workspace, "generate", str(photo), "-o", str(tmp_path / "x.json"), "--student", "wide")
    assert finished.exit_code == OK, finished.stderr
    assert len(json.loads((tmp_path / "x.json").read_text())) == 3
    refused = cli(workspace, "generate", str(photo), "-o", str(tmp_path / "x.glb"))
    assert refused.exit_code == 2
    assert "the student's casts are written as .json" in refused.stderr


def test_adding_a_variant_trains_one_student_and_leaves_the_others(workspace):
    more = "train.variants={wide: {students.sizer.width: 16}, third: {train.seed: 5}}"
    assert "3 done (1 computed)" in run_task("train", workspace, "--set", more).stderr
    assert "2 done (0 computed)" in run_task("train", workspace).stderr

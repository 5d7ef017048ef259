"""A teacher that makes Gaussians and no mesh passes every stage; whoever needs a mesh is told that there is none."""

import json

import pytest

from models.gaussians import Gaussians
from models.views import decode_rgba
from tasks.collections.records import read_items
from tasks.engine.outcome import OK
from tasks.order import ORDER
from tasks.workspace import Workspace
from tests.support import Finished, make_workspace, run_module, run_task

PARAMS = {
    "run": {"workers": 1},
    "ingest": {"sources": [{"source": "generated", "count": 6}], "split": {"val": 0.2, "test": 0.3}},
    "views": {"size_px": 48},
    "matte": {"size_px": 48},
    "teach": {"teacher": "splatter"},
    "gate": {"require_watertight": True},
    "train": {"student": "sizer", "epochs": 2},
    "evaluate": {"baselines": [], "num_points": 500, "iou_resolution": 16},
    "report": {"strip_views": 2, "strip_size_px": 32, "num_items": 1},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("splats"), PARAMS)
    for stage in ORDER:
        finished = run_task(stage, workspace)
        assert finished.exit_code == OK, f"{stage}: {finished.stderr[-2000:]}"
        if stage == "gate":
            assert "6 of 6 items are accepted unmeasured" in finished.stderr
    return workspace


def cli(workspace: Workspace, *arguments: str) -> Finished:
    return run_module("flows.cli", *arguments, "--workspace", str(workspace.root))


def test_nothing_is_measured_and_everything_is_accepted_and_counted(workspace):
    records = read_items(workspace.items_file("gate"))
    assert len(records) == 6
    for record in records.values():
        assert set(record.quality.values()) == {None}
        assert (record.facts["judged"], record.facts["kinds"]) == (None, ["gaussians"])
    metrics = json.loads(workspace.metrics_file("gate").read_text())
    assert (metrics["accepted"], metrics["unmeasured"], metrics["rejected"], metrics["share"]) == (6, 6, 0, 1.0)
    (notice,) = metrics["notices"]
    assert "has no surface and cannot be drawn. Look at some before you train: `lostwax show " in notice


def test_the_page_says_that_nothing_was_measured(workspace):
    page = (workspace.artifacts("report") / "index.html").read_text()
    assert "6 of 6 of the teacher’s outputs are accepted (100%)" in page
    assert "6 of these could not be measured" in page
    assert "not measured: its gaussians have no surface and cannot be drawn" in page
    assert "it has no pictures from these sides" in page


def test_explain_and_show_tell_of_the_gaussians(workspace, tmp_path):
    item = next(iter(read_items(workspace.items_file("gate"))))
    told = json.loads(cli(workspace, "explain", item, "--json").stdout)
    gate = next(stage for stage in told["stages"] if stage["stage"] == "gate")
    assert gate["state"] == "done"
    assert gate["why"] == (
        "accepted unmeasured: what the teacher stored (gaussians) has no surface and cannot be drawn"
    )
    assert cli(workspace, "show", item, "-o", str(tmp_path / "shown")).exit_code == OK
    assert len(Gaussians.from_ply((tmp_path / "shown" / "teach" / "gaussians.ply").read_bytes()).means_N3) == 50
    with_views_alone = decode_rgba((tmp_path / "shown" / "gate" / "gate.png").read_bytes())
    assert with_views_alone.shape[:2] == (48, 4 * 48)


def test_a_student_that_needs_the_teachers_mesh_is_told_that_there_is_none(workspace):
    finished = run_task("train", workspace, "--set", "train.student=mesh_deform")
    assert finished.exit_code != OK
    assert "left out: it has no teacher's mesh" in finished.stderr


def test_a_trial_writes_gaussians_and_says_that_they_are_not_drawn(workspace, tmp_path):
    shown = tmp_path / "shown"
    cli(workspace, "show", next(iter(read_items(workspace.items_file("views")))), "-o", str(shown))
    photo = str(shown / "views" / "view.front.png")
    tried = cli(workspace, "teacher", "try", "splatter", photo, "-o", str(tmp_path / "cup.ply"))
    assert tried.exit_code == OK, tried.stderr
    assert "cup.ply: 50 Gaussians" in tried.stderr
    assert "what it was given, alone: a cast of this kind cannot be drawn" in tried.stderr
    assert len(Gaussians.from_ply((tmp_path / "cup.ply").read_bytes()).means_N3) == 50
    assert decode_rgba((tmp_path / "cup.png").read_bytes()).shape == (256, 256, 4)
    refused = cli(workspace, "teacher", "try", "splatter", photo, "-o", str(tmp_path / "cup.glb"))
    assert refused.exit_code == 1
    assert "splatter made nothing that is written as .glb, but 50 Gaussians (.ply)" in refused.stderr
    assert cli(workspace, "teacher", "try", "splatter", photo, "-o", str(tmp_path / "cup.txt")).exit_code == 2

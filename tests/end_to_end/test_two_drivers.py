"""The whole pipeline on a dozen tiny shoes, under both drivers: each sees the other's work as its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.collections.ledger import Ledger
from tasks.order import ORDER
from tasks.workspace import Workspace
from tests.support import ROOT

BIN = Path(sys.executable).parent
ITEM_STAGES = ("ingest", "views", "matte", "features", "teach", "gate")
TINY = {
    "run": {"workers": 2},
    "ingest": {"inbox": "inbox", "split": {"val": 0.2, "test": 0.3}},
    "views": {"size_px": 64, "num_ring": 4},
    "matte": {"matte": "rembg", "size_px": 64},
    "mattes": {"rembg": {"model": "isnet-general-use", "download": False}},
    "features": {"encoder": "dct", "depth": "rendered", "views": ["front", "left", "back", "right"]},
    "encoders": {"dct": {"grid": 8}},
    "depths": {"rendered": {}},
    "teach": {"teacher": "visual_hull"},
    "teachers": {"visual_hull": {"resolution": 32, "num_gaussians": 64}},
    "gate": {},
    "fields": {},
    "train": {"student": "mesh_deform", "epochs": 2, "batch_size": 4},
    "students": {"mesh_deform": {"preset": "tiny", "num_points": 200, "validation_points": 200}},
    "evaluate": {"num_points": 500, "iou_resolution": 16, "icosphere_fit_steps": 40},
    "report": {"num_items": 2, "strip_views": 2, "strip_size_px": 48},
}


def lostwax(workspace: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return command([str(BIN / "lostwax"), *arguments], workspace, code)


def repro(workspace: Path, code: int = 0) -> list[str]:
    """`dvc repro`; the stages it ran."""
    done = command([str(BIN / "dvc"), "repro"], workspace, code)
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]


def command(words: list[str], folder: Path, code: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "LP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == code, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def computed(workspace: Path) -> dict[str, int]:
    """Items that the last run of each stage computed."""
    found = {}
    for stage in ORDER:
        with Ledger(Workspace(workspace).local(stage)) as ledger:
            last = ledger.last_run()
            found[stage] = int(str(last["computed"])) if last else 0
    return found


def planned(workspace: Path, *arguments: str) -> dict[str, dict[str, object]]:
    stages = json.loads(lostwax(workspace, "plan", "--json", *arguments).stdout)["stages"]
    return {stage["stage"]: stage for stage in stages}


def items(workspace: Path, stage: str) -> bytes:
    return Workspace(workspace).items_file(stage).read_bytes()


def set_params(workspace: Path, **changes: dict[str, object]) -> None:
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for block, values in changes.items():
        params[block] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def make_workspace(folder: Path) -> Path:
    """A workspace whose inbox holds twelve shoes."""
    from models.shapes import make

    command([str(BIN / "lostwax"), "init", str(folder)], folder.parent, 0)
    (folder / "params.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    for seed in range(12):
        (folder / "inbox" / f"shoe{seed:02d}.glb").write_bytes(make("shoe", seed).mesh.to_glb())
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after its first `lostwax run`. Tests leave it as they found it."""
    workspace = make_workspace(tmp_path_factory.mktemp("flow") / "workspace")
    lostwax(workspace, "run")
    return workspace


def test_the_flow_makes_everything_that_scripts_rely_on(finished: Path) -> None:
    assert {stage["items"]["total"] for stage in status(finished).values() if stage["stage"] in ITEM_STAGES} == {12}
    pooled = json.loads((finished / "artifacts/evaluate/metrics.json").read_text())["test"]
    for method in ("student", "teacher", "mean_shape", "nearest", "ellipsoid", "icosphere_fit"):
        assert 0 < pooled[method]["chamfer"] < 1
    by_class = pooled.pop("by_class")
    assert by_class == {"object": pooled}  # what lies in no folder of the inbox is of one class
    assert (finished / "artifacts/report/index.html").read_text().startswith("<!doctype html>")


def test_dvc_plots_the_training_and_shows_the_scores_within_a_terminal(finished: Path) -> None:
    plots = json.loads(command([str(BIN / "dvc"), "plots", "show", "--json"], finished, 0).stdout)["data"]
    rows = plots["artifacts/train/epochs.json"][0]["content"]["data"]["values"]
    assert rows
    assert all(row.keys() == rows[0].keys() for row in rows)
    shown = command([str(BIN / "dvc"), "metrics", "show"], finished, 0).stdout
    header, scores = (line.split() for line in shown.splitlines())
    assert header == ["Path", "chamfer", "fscore", "iou", "items", "normal_consistency"]
    assert scores[0] == "artifacts/evaluate/scores.json"
    assert max(map(len, shown.splitlines())) < 100


def status(workspace: Path) -> dict[str, dict[str, dict[str, int]]]:
    stages = json.loads(lostwax(workspace, "status", "--json").stdout)["stages"]
    return {stage["stage"]: stage for stage in stages}


def test_explain_says_why_a_stage_has_no_use_for_an_item(finished: Path) -> None:
    records = map(json.loads, items(finished, "ingest").splitlines())
    label = next(record["facts"]["label"] for record in records if record["facts"]["split"] == "train")
    stages = json.loads(lostwax(finished, "explain", label, "--json").stdout)["stages"]
    states = {stage["stage"]: (stage["state"], stage["why"]) for stage in stages}
    assert states["gate"] == ("done", "accepted")
    assert states["evaluate"] == ("absent", "it is in the train split; test is evaluated")


def test_a_second_run_computes_nothing_and_dvc_then_runs_no_stage(finished: Path) -> None:
    before = {stage: items(finished, stage) for stage in ORDER}
    lostwax(finished, "run")
    assert set(computed(finished).values()) == {0}
    assert {stage: items(finished, stage) for stage in ORDER} == before
    assert repro(finished) == []


def test_a_changed_parameter_is_planned_computed_and_changed_back_costs_nothing(finished: Path) -> None:
    before = items(finished, "teach")
    set_params(finished, teach={"seed": 1})
    plan = planned(finished, "--until", "teach")
    assert (plan["teach"]["stale"], plan["teach"]["exact"]) == (12, True)
    assert plan["teach"]["why"] == ["params.seed: 0 -> 1"]
    assert plan["views"]["to_compute"] == 0
    lostwax(finished, "run", "--until", "teach")
    assert computed(finished)["teach"] == 12
    set_params(finished, teach={"seed": 0})
    assert all(stage["to_compute"] == 0 for stage in planned(finished).values())
    assert repro(finished) == ["teach"]
    assert computed(finished)["teach"] == 0
    assert items(finished, "teach") == before


def test_an_added_and_a_changed_file_cost_one_item_a_stage(finished: Path) -> None:
    from models.shapes import make

    shoe = finished / "inbox" / "shoe00.glb"
    original = shoe.read_bytes()
    shoe.write_bytes(make("shoe", 100).mesh.to_glb())
    added = finished / "inbox" / "another.glb"  # falls to train, where the draw needs no correction
    added.write_bytes(make("shoe", 101).mesh.to_glb())
    try:
        assert planned(finished, "--until", "ingest")["ingest"]["missing"] == 2
        lostwax(finished, "run", "--until", "gate")
        assert {stage: computed(finished)[stage] for stage in ITEM_STAGES} == dict.fromkeys(ITEM_STAGES, 2)
    finally:
        shoe.write_bytes(original)
        added.unlink()
    assert repro(finished)[:1] == ["ingest"]
    assert set(computed(finished).values()) == {0}


def test_a_limit_that_rejects_too_much_stops_training_and_changed_back_costs_nothing(finished: Path) -> None:
    before = {stage: items(finished, stage) for stage in ORDER}
    params = (finished / "params.yaml").read_text()
    set_params(finished, gate={"min_silhouette_iou": 0.999})
    done = lostwax(finished, "run", code=5)
    assert "the gate accepts 0 of 12 items (0%), under gate.min_accepted_share = 50%" in done.stderr
    (finished / "params.yaml").write_text(params)
    assert repro(finished) == ["gate", "fields"]  # what the stopped run published before it stopped
    assert set(computed(finished).values()) == {0}
    assert {stage: items(finished, stage) for stage in ORDER} == before


def test_a_corrupt_mesh_within_the_limit_lets_dvc_finish_and_is_named(finished: Path) -> None:
    broken = finished / "inbox" / "broken.glb"
    broken.write_bytes(b"glTF, or so it says")
    try:
        repro(finished)
        (failure,) = status(finished)["ingest"]["failed"]
        assert (failure["label"], failure["class"], failure["state"]) == ("broken", "bad_input", "exhausted")
        lostwax(finished, "run", "--until", "ingest", "--strict", code=3)
        assert computed(finished)["ingest"] == 0
    finally:
        broken.unlink()
        repro(finished)


def test_what_dvc_made_the_flow_finds_finished_and_equal(finished: Path, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "workspace")
    assert repro(workspace) == list(ORDER)
    lostwax(workspace, "run")
    assert set(computed(workspace).values()) == {0}
    assert repro(workspace) == []
    for stage in ORDER[:-1]:  # the report carries times
        assert items(workspace, stage) == items(finished, stage), stage


def test_overrides_are_kept_and_not_recorded(finished: Path) -> None:
    lock = (finished / "dvc.lock").read_bytes()
    done = lostwax(finished, "run", "--until", "views", "--set", "views.num_ring=2")
    assert "views.num_ring=2: a trial; it is kept, and what is published stays as it is" in done.stderr
    assert computed(finished)["views"] == 12
    assert (finished / "dvc.lock").read_bytes() == lock
    lostwax(finished, "run", "--until", "views")
    assert computed(finished)["views"] == 0
    assert repro(finished) == []


def test_a_photo_becomes_a_mesh_from_any_folder(finished: Path, tmp_path: Path) -> None:
    lostwax(finished, "show", "shoe00", "-o", str(tmp_path / "shown"))
    shutil.copy(tmp_path / "shown" / "views" / "view.left.png", tmp_path / "photo_left.png")
    lostwax(tmp_path, "generate", "photo_left.png", "-o", "out/cast.glb", "--workspace", str(finished))
    from models.geometry import Mesh

    cast = Mesh.from_glb((tmp_path / "out" / "cast.glb").read_bytes())
    assert len(cast.vertices_N3) == 2562
    done = lostwax(tmp_path, "generate", "absent.png", "-o", "x.glb", "-w", str(finished), code=2)
    assert "no image at absent.png" in done.stderr


def test_a_photo_is_prepared_as_the_student_was_trained_whatever_params_say_now(finished: Path, tmp_path: Path) -> None:
    lostwax(finished, "show", "shoe00", "-o", str(tmp_path))
    photo = str(tmp_path / "views" / "view.front.png")
    lostwax(finished, "generate", photo, "-o", str(tmp_path / "before.glb"))
    content = (finished / "params.yaml").read_text()
    try:
        set_params(finished, matte={"padding": 0.4, "size_px": 32}, features={"views": ["left"]})
        set_params(finished, encoders={"dct": {"grid": 3}})
        lostwax(finished, "generate", photo, "-o", str(tmp_path / "after.glb"))
    finally:
        (finished / "params.yaml").write_text(content)
    assert (tmp_path / "after.glb").read_bytes() == (tmp_path / "before.glb").read_bytes()


def test_the_blind_student_is_measured_on_a_finished_workspace(finished: Path) -> None:
    arguments = ["--workspace", str(finished), "--seeds", "1", "--epochs", "1", "--json"]
    figures = json.loads(command([sys.executable, "-m", "benchmarks.blind_student", *arguments], ROOT, 0).stdout)
    assert 0 < figures["student"] < 1
    assert 0 < figures["blind_student"] < 1
    records = map(json.loads, items(finished, "evaluate").splitlines())
    assert figures["num_items"] == len({record["facts"]["item"] for record in records})


def test_an_outdated_versions_file_is_refused_with_the_remedy(finished: Path) -> None:
    path = finished / "versions.yaml"
    content = path.read_text()
    versions = yaml.safe_load(content)
    versions["stages"]["views"] -= 1
    path.write_text(yaml.safe_dump(versions))
    try:
        done = lostwax(finished, "run", code=2)
        assert "differs from the installed lostwax in views" in done.stderr
        assert f"lostwax init {finished}" in done.stderr
    finally:
        path.write_text(content)

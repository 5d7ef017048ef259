"""SIGKILL of the whole process group amid ingest, views, teach and train: they end as if nobody had killed them."""

import json
import re

import pytest

from models.shapes import make
from tasks.collections.ledger import Ledger
from tasks.engine.outcome import OK
from tasks.engine.worker import open_upstream
from tasks.order import ORDER
from tests.faults.evidence import Storm, finished_items, held_twice, traces_of_progress
from tests.support import Running, make_workspace, run_task

STAGES = ORDER[: ORDER.index("train") + 1]
WITHIN_S = {"ingest": 0.05, "views": 0.15, "teach": 0.15, "train": 0.3}
"""Up to how long after a run's first finished item, or its first new checkpoint, it is killed: a few items or steps."""


def make_shoes(folder, num_items, epochs):
    params = {
        "run": {"workers": 2, "device": "cpu", "attempts": {"interrupted": 1000}},
        "ingest": {"split": {"val": 0.2, "test": 0.3}},
        "views": {"size_px": 64, "num_ring": 4},
        "matte": {"size_px": 64},
        "features": {"encoder": "dct", "depth": "rendered"},
        "encoders": {"dct": {"grid": 8}},
        "teach": {"teacher": "visual_hull"},
        "teachers": {"visual_hull": {"resolution": 32, "num_gaussians": 64}},
        "train": {
            "epochs": epochs,
            "batch_size": 4,
            "validate_every_epochs": 1,
            "checkpoint_every_steps": 1,
        },
        "students": {"mesh_deform": {"preset": "tiny", "num_points": 200, "validation_points": 200}},
    }
    workspace = make_workspace(folder, params)
    for seed in range(num_items):
        (workspace.root / "inbox" / f"shoe{seed:03d}.glb").write_bytes(make("shoe", seed).mesh.to_glb())
    return workspace


def run_to_its_end(workspace, stage):
    ended = run_task(stage, workspace)
    assert ended.exit_code == OK, ended.stderr


def kill_and_finish(workspace, stage, seed, num_kills):
    """Up to num_kills kills of the stage at work, then a run to its end; returns how many kills hit it at work."""
    storm = Storm(
        workspace,
        lambda: Running("tasks", stage, cwd=workspace.root),
        seed,
        stage=stage,
        traces=traces_of_progress,
    )
    while storm.num_kills < num_kills and storm.kill(WITHIN_S[stage]):
        pass
    ended = storm.finish()
    assert ended.exit_code == OK, ended.stderr
    return storm.num_kills


def assert_everything_finished_once(workspace, stage):
    """Every published item is whole on disk, held once, and was never reported as done a second time."""
    records = [json.loads(line) for line in workspace.items_file(stage).read_text().splitlines()]
    assert {(record["id"], record["key"]) for record in records} == finished_items(workspace, stage)
    assert held_twice(workspace, stage) == []
    with Ledger(workspace.local(stage)) as ledger:
        assert set(ledger.times_done().values()) == ({1} if records else set())  # no student asks for fields


def training(workspace):
    """The rows of every step and epoch, and the weights' bytes."""
    product = open_upstream(workspace, "train")
    return json.loads(product.read("train", "history.json")), product.read("train", "student.safetensors")


def resumed_at(workspace):
    """The step at which the last worker of train went on, by its log; 0 where it began anew."""
    found = re.search(r"training continues at step (\d+)", (workspace.local("train") / "logs/worker-1.log").read_text())
    return int(found[1]) if found else 0


def brave_the_storm(folder, num_items, epochs, kills):
    """Kill each stage of `kills` that often, and compare with a twin that nobody kills; returns the kills by stage."""
    workspace, twin = (make_shoes(folder / name, num_items, epochs) for name in ("killed", "twin"))
    hit = {}
    for seed, stage in enumerate(STAGES):
        if stage in kills:
            hit[stage] = kill_and_finish(workspace, stage, seed, kills[stage])
        else:
            run_to_its_end(workspace, stage)
        run_to_its_end(twin, stage)
        assert_everything_finished_once(workspace, stage)
        assert workspace.items_file(stage).read_bytes() == twin.items_file(stage).read_bytes(), stage
        assert workspace.failures_file(stage).read_bytes() == twin.failures_file(stage).read_bytes(), stage
    assert training(workspace) == training(twin)
    assert resumed_at(workspace) >= hit["train"] - 1  # a step a kill at least; the last kill may have found it finished
    return hit


def test_real_stages_killed_at_work_end_as_if_never_killed(tmp_path):
    hit = brave_the_storm(tmp_path, num_items=10, epochs=4, kills={"ingest": 1, "views": 1, "teach": 1, "train": 2})
    assert min(hit.values()) >= 1, hit


@pytest.mark.slow
def test_real_stages_killed_fifty_times_at_work_end_as_if_never_killed(tmp_path):
    hit = brave_the_storm(tmp_path, num_items=96, epochs=6, kills={"ingest": 16, "views": 16, "teach": 16, "train": 8})
    assert sum(hit.values()) >= 50, hit
    assert min(hit.values()) >= 5, hit

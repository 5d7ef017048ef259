"""A whole run of the stage: awkward names go through planner, worker, ledger and files; what is not taken is told."""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from tasks.commands.plan import forecast
from tasks.engine.runner import run_stage
from tasks.engine.standing import status
from tasks.params import load_params
from tasks.stages.ingest import Ingest
from tasks.versions import check_versions
from tests.support import make_workspace

AWKWARD = (os.fsdecode(b"caf\xe9.png"), "[red]mug[bold].png", "line\nbreak.png")
TOLD = "not taken: 1 .fbx (export as .glb)"


def test_awkward_names_are_items_or_fail_alone_and_what_is_not_taken_is_told(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w", {"run": {"workers": 1, "max_failed_share": 1}})
    for index, name in enumerate(("good.png", *AWKWARD)):
        Image.fromarray(np.full((4, 4, 3), index, np.uint8)).save(workspace.root / "inbox" / name)
    (workspace.root / "inbox" / os.fsdecode(b"torn\xff.png")).write_bytes(b"torn")
    (workspace.root / "inbox" / os.fsdecode(b"gone\xff.png")).symlink_to("nowhere")
    (workspace.root / "inbox" / "a.fbx").write_bytes(b"")
    params = load_params(workspace.params_file)
    versions = check_versions(workspace, params)

    assert forecast(workspace, params, versions, ["ingest"])[0].notices[0] == TOLD
    outcome = run_stage(Ingest(), workspace, params, versions)
    assert (outcome.total, outcome.done, outcome.exhausted) == (6, 4, 2)
    assert outcome.notices[0] == TOLD
    (standing,) = status(workspace, ["ingest"])
    assert standing.notices == list(outcome.notices)
    failed = {entry["label"]: entry["message"] for entry in standing.failed}
    assert failed == {
        r"torn\xff": "not a readable image: its bytes are of no known format",
        r"gone\xff": r"inbox/gone\xff.png cannot be read: No such file or directory",
    }
    lines = workspace.items_file("ingest").read_text().splitlines()
    labels = {json.loads(line)["facts"]["label"] for line in lines}
    assert labels == {"good", r"caf\xe9", "[red]mug[bold]", r"line\nbreak"}

    before = workspace.items_file("ingest").read_bytes(), workspace.metrics_file("ingest").read_bytes()
    again = run_stage(Ingest(), workspace, params, versions)
    assert (again.computed, again.notices) == (0, outcome.notices)
    assert (workspace.items_file("ingest").read_bytes(), workspace.metrics_file("ingest").read_bytes()) == before

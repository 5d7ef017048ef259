"""teach with the imported teacher, through planning, a worker and the ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from models.errors import BadInput
from models.geometry import Mesh
from tasks.collections.records import read_items, to_line
from tasks.collections.spool import Spool
from tasks.collections.tarball import encode_item
from tasks.engine.outcome import OK, StageFailed
from tasks.engine.runner import run_stage
from tasks.params import Params
from tasks.stages.teach import Teach
from tasks.workspace import Workspace
from tests.faults.factory import photo
from tests.support import TOY_ID, make_context, make_item, make_record, make_workspace

LABELS = {"1": "shoes/boot", "2": "shoes/clog", "3": "mugs/boot", "4": "mugs/blue", "5": "mugs/cut", "6": "mugs/out"}
LICENCE = "CC0-1.0 (made for this test)"


def glb(width: float) -> bytes:
    """A box as high as 1 and this wide, standing in Z."""
    box = trimesh.creation.box((width, width, 1))
    return Mesh(np.asarray(box.vertices, np.float32), np.asarray(box.faces, np.int32)).to_glb()


def publish(workspace: Workspace, stage: str, files: dict[str, bytes]) -> None:
    """A collection of the items, as its stage would have left it."""
    workspace.local(stage).mkdir(parents=True)
    spool = Spool(workspace.local(stage), workspace.shards_dir(stage))
    records = [make_record(files, item_id=item_id, facts={"label": label}) for item_id, label in LABELS.items()]
    for record in records:
        spool.append(*encode_item(record, files))
    spool.seal()
    workspace.items_file(stage).write_bytes(b"".join(map(to_line, records)))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Items that wait for a teacher, and a folder with results for most of them."""
    root = tmp_path_factory.mktemp("imported")
    made = make_workspace(root / "workspace")
    publish(made, "ingest", {})
    publish(made, "matte", {"view.front.png": photo(0)})
    run = root / "run"
    for folder in ("shoes", "mugs"):
        (run / folder).mkdir(parents=True)
    (run / "shoes" / "boot.glb").write_bytes(glb(0.2))
    (run / "shoes" / "clog.glb").write_bytes(glb(0.4))
    (run / "mugs" / "boot.glb").write_bytes(glb(0.6))
    (run / "mugs" / "cut.glb").write_bytes(glb(0.6)[:-50])
    (root / "out.glb").write_bytes(glb(0.6))
    (run / "mugs" / "out.glb").symlink_to(root / "out.glb")
    return made


def run(workspace: Workspace, **block: Any) -> tuple[int, dict[str, Any]]:
    """How many items it computed, and the entries of failures.json by id."""
    params = Params(
        {
            "run": {"workers": 1, "max_failed_share": 0.5},
            "teach": {"teacher": "imported"},
            "teachers": {"imported": {"folder": "../run", "licence": LICENCE, "up": "z", **block}},
        }
    )
    outcome = run_stage(Teach(), workspace, params, {"teach": 1, "teachers.imported": 1})
    assert outcome.exit_code == OK, outcome.message
    failures = json.loads(workspace.failures_file("teach").read_text())
    return outcome.computed, {entry["id"]: entry for entry in failures}


def test_results_made_elsewhere_are_taken_and_a_changed_one_is_taken_again(workspace: Workspace) -> None:
    computed, failures = run(workspace)
    assert computed == 3
    records = read_items(workspace.items_file("teach"))
    assert sorted(records) == ["1", "2", "3"]
    assert records["1"].facts == {"teacher": "imported", "licence": LICENCE}
    assert [round(records[item_id].quality["volume"], 2) for item_id in ("1", "2", "3")] == [0.04, 0.16, 0.36]
    assert (failures["4"]["state"], failures["4"]["message"]) == ("skipped", "the imported teacher has nothing for it")
    assert (failures["5"]["state"], failures["5"]["class"]) == ("exhausted", "bad_input")
    assert failures["5"]["message"].startswith("cut.glb: truncated: the GLB's header says")
    assert failures["6"]["class"] == "bad_input"
    assert "mugs/out.glb is a link that leads out of the folder" in failures["6"]["message"]

    assert run(workspace)[0] == 0

    folder = workspace.root.parent / "run"
    (folder / "mugs" / "cut.glb").write_bytes(glb(0.5))
    (folder / "shoes" / "clog.glb").write_bytes(glb(0.3))
    before = records["1"].key, records["2"].key
    assert run(workspace)[0] == 2
    records = read_items(workspace.items_file("teach"))
    assert sorted(records) == ["1", "2", "3", "5"]
    assert (records["1"].key, round(records["2"].quality["volume"], 2)) == (before[0], 0.09)
    assert records["2"].key != before[1]

    folder.rename(folder.with_name("moved"))
    assert run(workspace, folder="../moved")[0] == 0
    with pytest.raises(StageFailed, match=r"there is no folder at .*run \(teachers\.imported\.folder\)"):
        run(workspace)


def test_a_file_that_changes_after_planning_is_not_taken_for_the_planned_one(tmp_path: Path) -> None:
    path = tmp_path / "boot.glb"
    path.write_bytes(glb(0.2))
    context = make_context(
        tmp_path,
        {"teach": {"teacher": "imported"}, "teachers": {"imported": {"folder": ".", "licence": LICENCE}}},
        payloads={TOY_ID: {"files": [[str(path), "0" * 64]]}},
    )
    item = make_item({"matte": {"view.front.png": photo(0)}})
    with pytest.raises(BadInput, match=r"boot\.glb changed while it was being read, or is gone"):
        Teach().start(context)(item)

from pathlib import Path

from tasks.engine.runner import run_stage
from tasks.params import load_params
from tasks.stages.ingest import Ingest
from tasks.stages.ingest.left_out import FACT, MOST_OBJECTS, Incomplete, notices
from tasks.versions import check_versions
from tests.support import make_record, make_workspace

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n"


def test_a_mesh_whose_texture_is_missing_is_told_and_not_recorded_as_textured(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w", {"run": {"workers": 1}})
    inbox = workspace.root / "inbox"
    (inbox / "whole.obj").write_text(SQUARE.replace("1 1 0", "1 2 0"))
    (inbox / "bare.obj").write_text(f"mtllib bare.mtl\nusemtl skin\n{SQUARE}")
    (inbox / "bare.mtl").write_text("newmtl skin\nKd .5 .5 .5\nmap_Kd C:\\scan\\skin.png\n")
    params = load_params(workspace.params_file)
    outcome = run_stage(Ingest(), workspace, params, check_versions(workspace, params))
    assert outcome.done == 2
    told = r"1 object without something that their files name (bare: the texture 'C:\\scan\\skin.png' is not there)"
    assert told in outcome.notices
    colours = [line.partition('"colour":"')[2].partition('"')[0] for line in workspace.items_file("ingest").open()]
    assert sorted(colours) == ["material", "none"]


def test_many_are_counted_and_some_are_named() -> None:
    incomplete = Incomplete()
    for index in range(50):
        incomplete.add(make_record({}, facts={"label": f"{index:02d}", FACT: ["no t"] if index % 2 else []}))
    lacking = incomplete.to_json()
    assert (lacking["num_objects"], len(lacking["first"])) == (25, MOST_OBJECTS)
    assert notices(lacking) == ["25 objects without something that their files name (01: no t, 03: no t and 23 more)"]
    assert notices(Incomplete().to_json()) == notices({}) == []

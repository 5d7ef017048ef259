"""`lostwax teacher try`, with the scripted teacher: a package of its own, in a process of its own."""

import json

import numpy as np
import pytest

from models.geometry import Mesh
from models.views import decode_rgba
from tests.faults.factory import photo
from tests.support import Finished, make_workspace, run_module


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "script").mkdir()
    params = {"run": {"device": "cpu"}, "teachers": {"scripted": {"script": str(tmp_path / "script")}}}
    made = make_workspace(tmp_path / "workspace", params)
    (made.root / "cup.png").write_bytes(photo(1))
    return made


def try_out(workspace, teacher: str, *arguments: str) -> Finished:
    return run_module("flows.cli", "teacher", "try", teacher, *arguments, cwd=workspace.root)


def tell(workspace, *acts: str) -> None:
    (workspace.root.parent / "script" / "acts.json").write_text(json.dumps({"cup": acts}))


def test_a_trial_leaves_mesh_and_picture_and_tells_the_cost(workspace):
    ended = try_out(workspace, "scripted", "cup.png", "-o", "out/cup.glb")
    assert ended.exit_code == 0, ended.stderr
    assert "out/cup.glb: 4 vertices, 4 triangles, 1 piece, closed" in ended.stderr
    assert "of loading" in ended.stderr
    assert "licence of what it makes: none" in ended.stderr
    mesh = Mesh.from_glb((workspace.root / "out" / "cup.glb").read_bytes())
    assert np.abs(mesh.vertices_N3).max() == 0.5
    assert decode_rgba((workspace.root / "out" / "cup.png").read_bytes()).shape == (256, 5 * 256, 4)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("oom", "scripted: oom_gpu: OutOfMemoryError: CUDA out of memory"),
        ("kill", "scripted: killed: the teacher's process was killed by signal 9"),
        ("nan", "scripted: the teacher's mesh has vertices that are not finite"),
    ],
)
def test_a_trial_that_fails_says_how_and_writes_nothing(workspace, act, told):
    tell(workspace, act)
    ended = try_out(workspace, "scripted", "cup.png", "-o", "out/cup.glb")
    assert ended.exit_code == 1
    assert told in ended.stderr
    assert not (workspace.root / "out").exists()


@pytest.mark.parametrize(
    ("teacher", "image", "told"),
    [
        ("scripted", "nowhere.png", "no image at nowhere.png"),
        ("scripted", "params.yaml", "params.yaml: not a readable image: its bytes are of no known format"),
        ("visual_hull", "cup.png", "needs cameras"),
        ("imported", "cup.png", "nothing to try it with"),
        ("nobody", "cup.png", "unknown plug-in 'nobody' in teachers; there are: "),
    ],
)
def test_what_cannot_be_tried_is_wrong_usage(workspace, teacher, image, told):
    ended = try_out(workspace, teacher, image, "-o", "cup.glb")
    assert ended.exit_code == 2
    assert told in ended.stderr

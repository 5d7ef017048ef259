"""A trained student, exported, is the teacher of another workspace: gated like any other, known by its contents."""

import json
import shutil
from collections.abc import Mapping
from contextlib import closing
from types import MappingProxyType

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models.geometry import Mesh
from models.teachers.visual_hull import LICENCE
from tasks.collections.files import file_sha256
from tasks.collections.records import KeptLines, read_items
from tasks.collections.statcache import StatCache
from tasks.engine.outcome import FAILED, OK
from tasks.engine.planning import make_recipe
from tasks.engine.stage import Wanted
from tasks.engine.upstreams import planning_context, published_lines
from tasks.order import ORDER
from tasks.params import load_params
from tasks.stages.teach import Teach
from tasks.versions import load_versions
from tasks.workspace import Workspace
from tests.support import ROOT, Finished, make_workspace, run_module, run_task

COMMON = {
    "run": {"workers": 1},
    "ingest": {"sources": [{"source": "generated", "count": 5}], "split": {"val": 0.2, "test": 0.0}},
    "views": {"size_px": 48},
    "matte": {"size_px": 48},
    "encoders": {"dct": {"grid": 4}},
}
SCHOOL = {
    **COMMON,
    "teach": {"teacher": "visual_hull"},
    "teachers": {"visual_hull": {"resolution": 32}},
    "gate": {"min_accepted_share": 0},
    "train": {"student": "mesh_deform", "epochs": 1, "batch_size": 2},
    "students": {"mesh_deform": {"num_points": 64, "validation_points": 64}},
}
HEIR = {**COMMON, "teach": {"teacher": "student"}, "teachers": {"student": {"path": "best"}}}


VIEWS = ("front", "left", "back", "right")


def cli(*arguments: str, **options) -> Finished:
    return run_module("flows.cli", *arguments, **options)


@pytest.fixture(scope="module")
def school(tmp_path_factory) -> Workspace:
    """Where the student is trained."""
    school = make_workspace(tmp_path_factory.mktemp("school"), SCHOOL)
    for stage in ORDER[: ORDER.index("train") + 1]:
        finished = run_task(stage, school)
        assert finished.exit_code == OK, f"{stage}: {finished.stderr[-2000:]}"
    return school


@pytest.fixture(scope="module")
def heir(school, tmp_path_factory) -> Workspace:
    """Where it teaches."""
    heir = make_workspace(tmp_path_factory.mktemp("heir"), HEIR)
    exported = cli("students", "export", "train", "best", "-w", str(school.root), cwd=heir.root)
    assert exported.exit_code == OK, exported.stderr
    for stage in ORDER[: ORDER.index("gate") + 1]:
        finished = run_task(stage, heir)
        assert finished.exit_code == OK, f"{stage}: {finished.stderr[-2000:]}"
    return heir


def teach(workspace: Workspace, *settings: str) -> Finished:
    return run_task("teach", workspace, *(part for setting in settings for part in ("--set", setting)))


def test_what_it_makes_is_stored_with_its_licences_and_gated(heir):
    taught, gated = (read_items(workspace_file) for workspace_file in map(heir.items_file, ("teach", "gate")))
    assert len(taught) == len(gated) == 5
    for record in taught.values():
        assert set(record.files) == {"mesh.glb"}
        assert record.quality["vertices"] == 2562
        assert record.facts["teacher"] == "student"
        assert f"teacher visual_hull: {LICENCE}" in record.facts["licence"].split("; ")
    assert all(record.quality["chamfer"] > 0 for record in gated.values())


def test_it_makes_what_the_student_makes_of_the_same_photos(heir, school, tmp_path):
    shown = tmp_path / "shown"
    item = next(iter(read_items(heir.items_file("teach"))))
    assert cli("show", item, "-o", str(shown), "-w", str(heir.root)).exit_code == OK
    photos = [str(tmp_path / f"shoe_{name}.png") for name in VIEWS]
    for name, photo in zip(VIEWS, photos, strict=True):
        shutil.copy(shown / "views" / f"view.{name}.png", photo)
    generated, tried = tmp_path / "generated.glb", tmp_path / "tried.glb"
    assert cli("generate", *photos, "-o", str(generated), "-w", str(school.root)).exit_code == OK
    ended = cli("teacher", "try", "student", *photos, "-o", str(tried), "-w", str(heir.root))
    assert ended.exit_code == OK, ended.stderr
    assert "2562 vertices" in ended.stderr
    assert tried.read_bytes() == generated.read_bytes()
    stored = Mesh.from_glb((shown / "teach" / "mesh.glb").read_bytes())
    np.testing.assert_allclose(stored.vertices_N3, Mesh.from_glb(tried.read_bytes()).vertices_N3, atol=1e-5)


def test_a_moved_folder_teaches_nothing_anew_and_other_weights_do(heir):
    (heir.root / "best").rename(heir.root / "moved")
    assert "5 done (0 computed)" in teach(heir, "teachers.student.path=moved").stderr
    weights = heir.root / "moved" / "student.safetensors"
    before = weights.read_bytes()
    save_file({name: array * np.float32(1.001) for name, array in load_file(weights).items()}, weights)
    assert "5 done (5 computed)" in teach(heir, "teachers.student.path=moved").stderr
    weights.write_bytes(before)
    (heir.root / "moved").rename(heir.root / "best")
    assert "5 done (0 computed)" in teach(heir).stderr


def test_another_version_of_its_plug_in_is_another_teacher(heir):
    versions = load_versions(ROOT / "versions.yaml")
    changed = {**versions, "students.mesh_deform": versions["students.mesh_deform"] + 1}
    assert keys(heir, versions) == {record.key for record in read_items(heir.items_file("teach")).values()}
    assert not keys(heir, versions) & keys(heir, changed)


def keys(workspace: Workspace, versions: dict[str, int]) -> set[str]:
    """That items would have."""
    params = load_params(workspace.params_file)
    recipe = make_recipe(Teach(), params, versions, workspace, file_sha256)
    return {recipe.key(wanted.inputs) for wanted in all_wanted(workspace, versions)}


def all_wanted(
    workspace: Workspace, versions: Mapping[str, int] = MappingProxyType({}), without: str = ""
) -> list[Wanted]:
    """What teach wants. without: an upstream that holds nothing."""
    with closing(StatCache(workspace.stat_cache_file)) as stats:
        upstreams = {name: published_lines(workspace, name, stats) for name in Teach.upstreams}
        if without:
            upstreams[without].adopt(KeptLines())
        context = planning_context(Teach(), workspace, load_params(workspace.params_file), stats, upstreams, versions)
        return list(Teach().wanted(context))


def test_other_features_are_other_inputs_of_this_teacher_and_not_of_one_that_reads_views(heir, school):
    def stale(workspace: Workspace) -> int:
        told = cli("plan", "--set", "encoders.dct.grid=8", "--until", "teach", "--json", "-w", str(workspace.root))
        stages = {stage["stage"]: stage for stage in json.loads(told.stdout)["stages"]}
        assert stages["features"]["stale"] == 5
        return stages["teach"]["to_compute"]

    assert (stale(heir), stale(school)) == (5, 0)
    assert all("features/grids.safetensors" in dict(wanted.inputs) for wanted in all_wanted(heir))


def test_an_item_without_what_the_student_reads_is_skipped_with_the_reason(heir):
    (reason,) = {wanted.skip for wanted in all_wanted(heir, without="features")}
    assert reason == "the student teacher can do nothing with it: it has no encoder tokens"


def test_images_made_ready_otherwise_are_refused_with_both_settings(heir):
    description = heir.root / "best" / "student.json"
    before = description.read_text()
    changed = json.loads(before)
    changed["preparation"]["features"]["encoder"] = "dinov2"
    description.write_text(json.dumps(changed))
    finished = teach(heir)
    assert finished.exit_code == FAILED
    assert "made ready otherwise: features.encoder dinov2, here dct" in finished.stderr
    changed = json.loads(before)
    changed["forms"]["tokens"]["encoder"] = "dinov2-384x12"
    description.write_text(json.dumps(changed))
    finished = teach(heir)
    assert finished.exit_code == FAILED
    assert "tokens.encoder dinov2-384x12, here dct-14-96x4" in finished.stderr
    description.write_text(before)
    assert "5 done (0 computed)" in teach(heir).stderr


def test_no_student_blocks_and_says_what_writes_one(heir):
    finished = teach(heir, "teachers.student.path=nowhere")
    assert finished.exit_code == FAILED
    assert "there is no " in finished.stderr
    assert "`lostwax students export NAME FOLDER`" in finished.stderr
    (heir.root / "broken").mkdir()
    (heir.root / "broken" / "student.json").write_text("{}")
    finished = teach(heir, "teachers.student.path=broken")
    assert finished.exit_code == FAILED
    assert "student.json describes no student that this lostwax knows" in finished.stderr

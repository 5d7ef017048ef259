"""teach: what it reads and skips, what it writes, and what it does not take for a shape."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh

from models.cameras import orbit_camera
from models.errors import BadInput, EmptyOutput
from models.gaussians import Gaussians
from models.geometry import FRAME, Mesh
from models.teachers import TeacherOutput
from models.teachers.visual_hull import LICENCE
from models.views import encode_png
from tasks.collections.records import FileEntry, Record
from tasks.engine.stage import Context, Item, Output
from tasks.params import Params
from tasks.stages.teach import Teach, accept, files_of, item_seed, read_views

RADIUS, SIZE_PX, DISTANCE = 0.4, 64, 2.7
NAMES = ("back", "front", "left", "right", "ring_00", "ring_01")
PARAMS = Params(
    {"teach": {"teacher": "visual_hull"}, "teachers": {"visual_hull": {"resolution": 32, "num_gaussians": 100}}}
)


def sphere_files() -> dict[str, bytes]:
    """Six matted views of a sphere, as the matte stage leaves them."""
    rows, columns = np.indices((SIZE_PX, SIZE_PX)) + 0.5
    files, cameras = {}, {}
    for index, name in enumerate(NAMES):
        camera = orbit_camera(60.0 * index, 50.0 * (-1) ** index, DISTANCE, 40, SIZE_PX)
        radius_px = camera.intrinsics_33[0, 0] * RADIUS / np.sqrt(DISTANCE**2 - RADIUS**2)
        coverage = (radius_px + 0.5 - np.hypot(rows - SIZE_PX / 2, columns - SIZE_PX / 2)).clip(0, 1)
        image = np.dstack([np.full((SIZE_PX, SIZE_PX, 3), 10 * index), np.rint(coverage * 255)])
        files[f"view.{name}.png"] = encode_png(image.astype(np.uint8))
        cameras[name] = camera.to_json()
    return {**files, "cameras.json": json.dumps({"size_px": SIZE_PX, "depth_scale": 1, "views": cameras}).encode()}


def item(files: dict[str, bytes], item_id: str = "a" * 16) -> Item:
    matte = Record(item_id, "key", {name: FileEntry("0" * 64, len(data)) for name, data in files.items()})
    ingest = Record(item_id, "key", {"mesh.glb": FileEntry("0" * 64, 1)}, facts={"label": "thing", "class": "ball"})
    return Item(item_id, "key", "thing", {"matte": matte, "ingest": ingest}, lambda stage, id_, name: files[name])


def run(files: dict[str, bytes]) -> Output:
    context = Context(Path(), PARAMS, "cpu", 1, Path(), {}, lambda text: None)
    return Teach().start(context)(item(files))


@pytest.fixture(scope="module")
def output() -> Output:
    return run(sphere_files())


def test_a_sphere_is_taught_with_its_figures(output):
    assert set(output.files) == {"mesh.glb", "gaussians.ply"}
    assert output.frame == FRAME
    assert output.facts == {"teacher": "visual_hull", "licence": LICENCE}
    mesh = Mesh.from_glb(output.files["mesh.glb"])
    assert mesh.colours_N4 is not None
    assert output.quality["vertices"] == len(mesh.vertices_N3)
    assert output.quality["faces"] == len(mesh.faces_F3)
    assert output.quality["watertight"] is True
    assert output.quality["components"] == 1
    assert 1 < output.quality["volume"] / (4 / 3 * np.pi * RADIUS**3) < 1.5
    assert 1 < output.quality["area"] / (4 * np.pi * RADIUS**2) < 1.4
    assert len(Gaussians.from_ply(output.files["gaussians.ply"]).means_N3) == 100


def test_equal_inputs_give_equal_bytes(output):
    assert run(sphere_files()) == output


def test_the_record_can_be_written_as_json(output):
    assert json.loads(json.dumps(output.quality)) == output.quality


def test_labels_are_not_read():
    records = item({**sphere_files(), "crops.json": b"{}"}).records
    assert Teach().reads(records, PARAMS) == [
        ("matte", "cameras.json"),
        *(("matte", f"view.{name}.png") for name in NAMES),
    ]


def test_views_that_the_teacher_can_do_nothing_with_are_skipped_with_the_reason_and_the_remedy():
    files = sphere_files()
    assert Teach().skip(item(files).records, PARAMS) is None
    del files["cameras.json"]
    assert Teach().skip(item(files).records, PARAMS) is None, "four sides are named"
    single = item({"view.front.png": files["view.front.png"]}).records
    assert Teach().skip(single, PARAMS) == (
        "the visual_hull teacher can do nothing with it: it needs cameras, or photos named front or back and left or "
        "right (teach.teacher: classical takes any)"
    )
    assert Teach().skip(single, Params({"teach": {"teacher": "classical"}})) is None


def test_the_chosen_teacher_enters_the_key():
    assert Teach().plugins(PARAMS) == {"teachers": "visual_hull"}


def test_features_are_read_for_a_teacher_that_wants_them_alone():
    assert Teach().upstreams_of(PARAMS) == ("matte", "ingest")
    wanting = Params({"teach": {"teacher": "student"}, "teachers": {"student": {"path": "x"}}})
    assert Teach().upstreams_of(wanting) == ("matte", "ingest", "features")


def test_a_kind_whose_files_no_record_could_tell_apart_is_a_mistake(monkeypatch):
    monkeypatch.setattr("models.casts.mesh.to_files", lambda cast: {"shape.glb": b""})
    with pytest.raises(TypeError, match=r"files of the kind mesh are named mesh\.SOMETHING, not shape\.glb"):
        files_of(TeacherOutput((ball(),)))


def test_named_views_come_first():
    views = read_views(item(sphere_files()))
    assert views.names == ("front", "left", "back", "right", "ring_00", "ring_01")
    assert views.rgba_VHW4[:, 32, 32, 0].tolist() == [10, 20, 0, 30, 40, 50]
    assert views.cameras is not None
    assert views.cameras[0].centre_3[1] < 0 < views.cameras[2].centre_3[1]


def test_an_item_without_views_is_bad_input():
    with pytest.raises(BadInput, match="has no views"):
        read_views(item({}))


def test_every_item_and_every_seed_draws_its_own_numbers():
    seeds = {item_seed(seed, item_id) for seed in (0, 1) for item_id in ("a", "b")}
    assert len(seeds) == 4
    assert item_seed(0, "a") == item_seed(0, "a") < 2**63


def ball(scale: float = 1.0) -> Mesh:
    mesh = trimesh.creation.icosphere(subdivisions=1, radius=RADIUS * scale)
    return Mesh(np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32))


def nan_vertex(mesh: Mesh) -> Mesh:
    vertices = mesh.vertices_N3.copy()
    vertices[3, 1] = np.nan
    return replace(mesh, vertices_N3=vertices)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (replace(ball(), faces_F3=np.zeros((0, 3), np.int32)), "without faces"),
        (nan_vertex(ball()), r"the teacher's mesh has vertices that are not finite \(vertices_N3: 1 of 42"),
        (replace(ball(), colours_N4=np.full((42, 3), np.nan)), r"the teacher's mesh has colours that are not finite"),
        (replace(ball(), faces_F3=np.full((1, 3), 999, np.int32)), "point at no vertex"),
        (ball(1.4), r"leaves the canonical box: it reaches 0\.5"),
        (replace(ball(), faces_F3=np.zeros((4, 3), np.int32)), "no area"),
    ],
)
def test_an_unusable_mesh_is_an_empty_output(mesh, message):
    with pytest.raises(EmptyOutput, match=message):
        accept(TeacherOutput((mesh,)))


def test_broken_gaussians_are_an_empty_output():
    one = np.ones((1, 3), np.float32)
    broken = Gaussians(one * np.inf, one, np.ones((1, 4), np.float32), np.ones(1, np.float32), one)
    with pytest.raises(EmptyOutput, match="Gaussians"):
        accept(TeacherOutput((ball(), broken)))


def test_a_teacher_may_make_gaussians_alone(monkeypatch):
    gaussians = Gaussians.from_ply(run(sphere_files()).files["gaussians.ply"])

    class Splatter:
        licence = "none"

        def generate(self, views, *, seed, name="item", rungs=None):
            return TeacherOutput((gaussians,), {"coords_N3": np.ones((2, 3), np.int32)}, {"steps": 3})

        def close(self):
            pass

    plugin = SimpleNamespace(create=lambda params, site: Splatter())
    monkeypatch.setattr(Teach, "_plugin", lambda self, params: plugin)
    output = run(sphere_files())
    assert set(output.files) == {"gaussians.ply", "latents.npz"}
    assert output.files["gaussians.ply"] == gaussians.to_ply()
    assert output.quality == {"gaussians": 100, "steps": 3}


def test_an_output_holds_a_cast_and_no_two_of_a_kind():
    with pytest.raises(EmptyOutput, match="returned no cast: neither a mesh nor Gaussians"):
        accept(TeacherOutput(()))
    with pytest.raises(ValueError, match="at most one cast of each kind, not Mesh, Mesh"):
        TeacherOutput((ball(), ball()))


def test_latents_that_are_no_numbers_are_an_empty_output():
    with pytest.raises(EmptyOutput, match="the teacher's slat_N8 are empty, no numbers, or not finite"):
        accept(TeacherOutput((ball(),), {"slat_N8": np.array([None])}))


def test_a_teachers_own_figures_are_kept():
    assert accept(TeacherOutput((ball(),), quality={"steps": 12}))[1]["steps"] == 12

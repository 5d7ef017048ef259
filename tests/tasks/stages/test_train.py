import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from safetensors.numpy import save

from models.errors import BadInput
from models.geometry import Mesh
from models.needs import TEACHER, TOKENS, TRUTH, InHand
from models.students import Ask, Spec
from models.students.mesh_deform import Params, create, needs
from models.students.mesh_deform.student import MeshDeform
from models.trained import load_student
from tasks.engine.stage import Item, Output, Wanted
from tasks.stages.train import Train
from tests.support import ROOT, TOY_KEY, make_context, make_record

VIEWS = ("front", "left", "back", "right")
ACCEPTED = {"silhouette_iou": 0.9, "psnr_db": 20.0, "brightness_ratio": 1.0, "area": 1.0, "components": 1}
ACCEPTED |= {"watertight": True, "chamfer": 0.01}
QUICK = {"epochs": 2, "batch_size": 4, "validate_every_epochs": 1}
POINTS = {"mesh_deform": {"num_points": 64, "validation_points": 64}}


def ellipsoid(rng: np.random.Generator) -> Mesh:
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    scaled = mesh.vertices * np.array([1, *rng.uniform(0.3, 0.9, 2)])
    return Mesh(scaled.astype(np.float32), mesh.faces.astype(np.int32))


class Shop:
    """Ellipsoids whose tokens tell their extents, in upstream collections made by hand."""

    def __init__(self, views=VIEWS) -> None:
        self.upstreams: dict = {name: {} for name in Train.upstreams}
        for number in range(6):
            self.add(f"train-{number}", split="train", views=views)
        self.add("val-0", split="val", views=views)
        self.add("test-0", split="test", views=views)

    def add(self, item_id, *, split, truth=True, teacher=True, views=VIEWS, rung=0, encoder="toy") -> None:
        rng = np.random.default_rng(len(self.upstreams["ingest"]))
        mesh = ellipsoid(rng)
        grids = {f"tokens.{view}": np.full((4, 4, 8), mesh.extents[1], np.float16) for view in views}
        facts = {"encoder": encoder, "channels": 8, "grid": [4, 4], "views": list(views)}
        self._put("features", item_id, {"grids.safetensors": save(grids)}, facts)
        if teacher:
            self._put("teach", item_id, {"mesh.glb": mesh.to_glb()}, {}, rung=rung)
            self._put("gate", item_id, {}, {}, quality=ACCEPTED)
        files = {"mesh.glb": mesh.to_glb()} if truth else {"photo.front.png": b"photo"}
        self._put("ingest", item_id, files, {"split": split, "has_truth": truth, "class": "ball"})

    def _put(self, stage, item_id, files, facts, **fields) -> None:
        self.upstreams[stage][item_id] = make_record(files, item_id=item_id, facts=facts, **fields), files

    def context(self, folder, **params):
        """params: of the block `train`; `students` is a block of its own."""
        students = params.pop("students", POINTS)
        return make_context(folder, {"train": QUICK | params, "students": students}, upstreams=self.upstreams)

    def wanted(self, folder, name="train", **params) -> Wanted:
        return next(one for one in Train().wanted(self.context(folder, **params)) if one.id == name)

    def inputs(self, folder, **params) -> tuple[tuple[str, str], ...]:
        return self.wanted(folder, **params).inputs

    def trained(self, folder, name="train", **params) -> Output:
        context = self.context(folder, **params)
        context = replace(context, payload=lambda _: self.wanted(folder, name, **params).payload)
        return Train().start(context)(Item(name, TOY_KEY, name, {}, lambda *_: b"", folder / name))


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Output:
    return Shop().trained(tmp_path_factory.mktemp("trained"))


def test_the_product_is_weights_description_and_history(output):
    assert set(output.files) == {"student.safetensors", "student.json", "history.json", "epochs.json"}
    description = json.loads(output.files["student.json"])
    assert description["student"] == "mesh_deform"
    assert description["forms"]["tokens"] == {"encoder": "toy", "channels": 8, "grid": [4, 4], "views": list(VIEWS)}
    history = json.loads(output.files["history.json"])
    assert [row["step"] for row in history["steps"]] == [1, 2, 3, 4]
    assert history["epochs"][-1]["val_chamfer"] >= output.quality["val_chamfer"]


def test_its_quality_says_how_many_items_it_saw(output):
    counts = {name: output.quality[name] for name in ("num_train", "num_val", "num_without_truth", "num_reduced")}
    assert counts == {"num_train": 6, "num_val": 1, "num_without_truth": 0, "num_reduced": 0}
    assert output.quality["num_steps"] == 4
    assert not output.quality["val_is_proxy"]


def test_equal_inputs_give_equal_bytes(output, tmp_path):
    assert Shop().trained(tmp_path) == output


def test_a_loaded_student_needs_nothing_but_the_product(output):
    student = load_student(output.files)
    item = InHand("one", {TOKENS: {"left": np.full((4, 4, 8), 0.5, np.float16)}}, (TOKENS,))
    mesh = student.predict(item, Ask())
    assert mesh.vertices_N3.shape == (2562, 3)
    assert 0.5 < mesh.extents.max() < 1.5


def test_the_key_holds_every_file_of_training_and_validation_items(tmp_path):
    names = {name for name, _ in Shop().inputs(tmp_path)}
    files = {name for name in names if name.endswith(("glb", "safetensors"))}
    assert len(files) == 7 * 3
    assert "ingest/val-0/mesh.glb" in files
    assert not any("test-0" in name for name in names)


def test_a_changed_teacher_or_another_split_is_another_key(tmp_path):
    before, changed, moved = Shop(), Shop(), Shop()
    changed._put("teach", "train-0", {"mesh.glb": b"another"}, {})
    moved.add("train-0", split="test")
    keys = {shop.inputs(tmp_path) for shop in (before, changed, moved)}
    assert len(keys) == 3
    assert Shop().inputs(tmp_path) == before.inputs(tmp_path)


def test_how_often_checkpoints_are_written_is_not_part_of_the_key(tmp_path):
    assert Shop().inputs(tmp_path, checkpoint_every_steps=5) == Shop().inputs(tmp_path, checkpoint_every_steps=50)


def test_a_variants_key_is_its_own_settings_and_no_other_students(tmp_path):
    variants = {"short": {"train.epochs": 1}, "seed1": {"train.seed": 1}}
    plain, more = Shop().wanted(tmp_path, "short", variants=variants), {**variants, "third": {"train.seed": 2}}
    assert Shop().wanted(tmp_path, "short", variants=more).inputs == plain.inputs
    assert Shop().wanted(tmp_path, "short", variants=variants, seed=7).inputs != plain.inputs
    assert Shop().wanted(tmp_path, "train", variants=variants).inputs == Shop().wanted(tmp_path, "train").inputs
    as_main = Shop().wanted(tmp_path, "train", epochs=1)
    assert as_main.inputs == plain.inputs, "a trial that is written down as a variant is found"


@pytest.mark.parametrize(
    ("variants", "match"),
    [
        ({"Big": {"train.epochs": 1}}, "'Big' cannot be a name"),
        ({"teacher": {"train.epochs": 1}}, "'teacher' cannot be a name"),
        ({"x": {"features.encoder": "dinov2"}}, "'features.encoder' cannot vary; write train.KEY or students.NAME.KEY"),
        ({"x": {"train.variants": {}}}, "'train.variants' cannot vary"),
        ({"x": {"train.epoch": 1}}, "unknown key train.epoch"),
    ],
)
def test_variants_that_cannot_be_are_refused(tmp_path, variants, match):
    with pytest.raises(ValueError, match=match):
        Shop().wanted(tmp_path, variants=variants)


def test_a_variant_without_a_teacher_learns_from_items_without_one(tmp_path):
    shop, variants = Shop(), {"no_teacher": {"students.mesh_deform.alpha": "none"}}
    shop.add("no-teacher", split="train", teacher=False)
    wanted = shop.wanted(tmp_path, "no_teacher", variants=variants)
    assert "ingest/no-teacher/mesh.glb" in dict(wanted.inputs)
    assert not any(name.startswith("teach/") for name, _ in wanted.inputs)
    assert shop.wanted(tmp_path).note == "train: items left out: 1 (it has no teacher's mesh)"
    trained = shop.trained(tmp_path, "no_teacher", variants=variants)
    assert (trained.quality["num_train"], trained.facts["settings"]["students"]["mesh_deform"]["alpha"]) == (7, "none")


def test_items_without_truth_train_beside_those_with_it(tmp_path):
    shop = Shop()
    shop.add("photo", split="train", truth=False, views=("front",), rung=1)
    shop.add("no-teacher", split="train", teacher=False)
    quality = shop.trained(tmp_path).quality
    assert quality["num_train"] == 7
    assert (quality["num_without_truth"], quality["num_reduced"]) == (1, 1)


def test_validation_without_truth_is_called_a_proxy(tmp_path):
    shop = Shop()
    shop.add("val-0", split="val", truth=False)
    assert shop.trained(tmp_path).quality["val_is_proxy"]


def test_without_training_items_it_says_what_to_do(tmp_path):
    shop = Shop()
    for number in range(6):
        shop.add(f"train-{number}", split="train", teacher=False)
        del shop.upstreams["teach"][f"train-{number}"]
        del shop.upstreams["gate"][f"train-{number}"]
    with pytest.raises(
        BadInput,
        match="6 items of the splits train and val are left out: it has no teacher's mesh",
    ):
        shop.trained(tmp_path)


def test_features_of_several_encoders_are_refused(tmp_path):
    shop = Shop()
    shop.add("other", split="train", encoder="dinov2")
    with pytest.raises(ValueError, match="features are of several kinds"):
        shop.trained(tmp_path)


def test_training_out_of_memory_is_measured_and_no_part_of_the_record(output, tmp_path, monkeypatch):
    forward = MeshDeform.forward

    def forward_of_two_at_most(student, batch, moment):
        if len(moment.items_B) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(student, batch, moment)

    monkeypatch.setattr(MeshDeform, "forward", forward_of_two_at_most)
    split = Shop().trained(tmp_path)
    assert split.measured == {"micro_batch": 2, "accumulate": 2, "validation_batch": 8, "out_of_memory": 1}
    assert split.facts == output.facts
    assert split.quality == output.quality | {"val_chamfer": pytest.approx(output.quality["val_chamfer"], rel=1e-2)}


def test_no_two_surfaces_are_sampled_at_the_same_points():
    """Not even equal meshes of two items, or a teacher's that is the truth."""
    one = ellipsoid(np.random.default_rng(0))
    tokens = {view: np.zeros((4, 4, 8), np.float16) for view in VIEWS}
    form = {"encoder": "toy", "channels": 8, "grid": [4, 4], "views": list(VIEWS)}
    student = create(Params(), Spec({"tokens": form}), seed=0)
    needed = needs(Params()).all
    items = [InHand(name, {TOKENS: tokens, TEACHER: one, TRUTH: one}, needed) for name in ("a", "b")]
    examples = [student.example(item) for item in items]
    clouds = [example[name].numpy().tobytes() for example in examples for name in ("teacher", "truth")]
    assert len(set(clouds)) == 4
    assert student.example(items[0])["truth"].numpy().tobytes() == clouds[1]


def test_planning_imports_neither_torch_nor_scipy():
    code = (
        "import sys, tasks.stages.train; sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'trimesh')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

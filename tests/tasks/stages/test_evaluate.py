import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh
from safetensors.numpy import save

from models.cameras import orbit_camera
from models.errors import EmptyOutput
from models.geometry import Mesh
from models.metrics.silhouettes import silhouette
from models.views import encode_png
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, Output
from tasks.stages.evaluate import Evaluate
from tests.support import TOY_KEY, make_context, make_record

PARAMS = {"evaluate": {"num_points": 1_000, "iou_resolution": 24, "icosphere_fit_steps": 10}}
SIZE_PX = 48
VIEWS = ("front", "left")
STUDENT = {"student.json": b"{}", "student.safetensors": b"weights"}
METHODS = {"student", "teacher", "mean_shape", "nearest", "ellipsoid", "icosphere_fit"}


def ball(radius: float) -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return Mesh(sphere.vertices.astype(np.float32), sphere.faces.astype(np.int32))


def grids(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return save({f"tokens.{view}": rng.standard_normal((8, 8, 4)).astype(np.float16) for view in VIEWS})


def matted(mesh: Mesh) -> dict[str, bytes]:
    cameras = {name: orbit_camera(90.0 * place, 10, 2.5, 40, SIZE_PX) for place, name in enumerate((*VIEWS, "ring_00"))}
    files = {}
    for name, camera in cameras.items():
        rgba_HW4 = np.zeros((SIZE_PX, SIZE_PX, 4), np.uint8)
        rgba_HW4[silhouette(mesh, camera, SIZE_PX)] = 255
        files[f"view.{name}.png"] = encode_png(rgba_HW4)
    views = {name: camera.to_json() for name, camera in cameras.items()}
    return {**files, "cameras.json": json.dumps({"size_px": SIZE_PX, "depth_scale": 1, "views": views}).encode()}


@dataclass
class Shop:
    """Upstreams made by hand: balls of some radius in both splits, and a student that answers with a ball of .4."""

    upstreams: dict[str, dict[str, tuple[Record, dict[str, bytes]]]]

    @staticmethod
    def stocked() -> "Shop":
        shop = Shop({name: {} for name in ("features", "train", "teach", "ingest", "matte")})
        shop.upstreams["train"]["train"] = make_record(STUDENT, item_id="train"), STUDENT
        shop.add("train-a", 1, radius=0.3, split="train")
        shop.add("train-b", 2, radius=0.5, split="train")
        shop.add("test-a", 2, radius=0.45, split="test")
        return shop

    def add(
        self, item_id: str, seed: int, *, radius: float, split: str, truth: bool = True, teacher: bool = True
    ) -> None:
        facts = {"class": "ball", "split": split, "has_truth": truth, "label": item_id}
        mesh = ball(radius)
        self._put("ingest", item_id, {"mesh.glb": mesh.to_glb()} if truth else {}, facts)
        self._put("features", item_id, {"grids.safetensors": grids(seed)}, {"views": list(VIEWS)})
        self._put("matte", item_id, matted(mesh), {})
        if teacher:
            self._put("teach", item_id, {"mesh.glb": ball(radius * 0.98).to_glb()}, {})

    def _put(self, stage: str, item_id: str, files: dict[str, bytes], facts: dict[str, Any]) -> None:
        self.upstreams[stage][item_id] = make_record(files, item_id=item_id, facts=facts), files

    def context(self, folder: Path, **params: Any) -> Context:
        return make_context(folder, {"evaluate": {**PARAMS["evaluate"], **params}}, upstreams=self.upstreams)

    def keys(self, folder: Path, **params: Any) -> dict[str, tuple[tuple[str, str], ...]]:
        return {wanted.id: wanted.inputs for wanted in Evaluate().wanted(self.context(folder, **params))}

    def evaluated(self, folder: Path, item_id: str = "test-a", **params: Any) -> Output:
        records = {stage: items[item_id][0] for stage, items in self.upstreams.items() if item_id in items}
        item = Item(item_id, TOY_KEY, item_id, records, lambda stage, id_, name: self.upstreams[stage][id_][1][name])
        return Evaluate().start(self.context(folder, **params))(item)


class BallStudent:
    """Whatever it sees, a ball of radius .4."""

    spec = SimpleNamespace(views=("front", "left", "back"))
    network = SimpleNamespace(to=lambda device: None)
    vertices_scale = 1.0

    def predict(self, tokens_BVHWC: np.ndarray, views: tuple[str, ...]) -> list[Mesh]:
        assert tokens_BVHWC.shape == (1, len(views), 8, 8, 4)
        return [Mesh(ball(0.4).vertices_N3 * np.float32(self.vertices_scale), ball(0.4).faces_F3)]


@pytest.fixture(autouse=True)
def student(monkeypatch: pytest.MonkeyPatch) -> BallStudent:
    made = BallStudent()
    monkeypatch.setattr("tasks.stages.evaluate.judge.load_student", lambda files: made)
    monkeypatch.setattr("tasks.stages.evaluate.latency.TIME_LIMIT_S", 0.01)
    return made


def test_every_method_is_compared_with_the_truth(tmp_path: Path) -> None:
    output = Shop.stocked().evaluated(tmp_path)
    chamfer = {method: figures["chamfer"] for method, figures in output.quality.items()}
    assert set(chamfer) == METHODS
    assert output.facts["basis"] == "truth"
    assert chamfer["student"] == pytest.approx(0.05, abs=0.01)
    mean_volume_radius = ((0.3**3 + 0.5**3) / 2) ** (1 / 3)
    assert chamfer["mean_shape"] == pytest.approx(0.45 - mean_volume_radius, abs=0.015)
    assert chamfer["ellipsoid"] < chamfer["nearest"]
    assert output.facts["floor"]["chamfer"] < chamfer["icosphere_fit"] < chamfer["student"]
    assert set(output.files) == {"student.glb", "mean_shape.glb", "nearest.glb"}


def test_nearest_is_the_training_item_of_the_nearest_features(tmp_path: Path) -> None:
    output = Shop.stocked().evaluated(tmp_path)
    assert output.facts["nearest"] == "train-b"
    assert Mesh.from_glb(output.files["nearest.glb"]).extents == pytest.approx([1, 1, 1], abs=0.01)


def test_equal_inputs_give_equal_outputs(tmp_path: Path) -> None:
    assert Shop.stocked().evaluated(tmp_path / "a") == Shop.stocked().evaluated(tmp_path / "b")


def test_a_missing_teacher_leaves_its_column_out(tmp_path: Path) -> None:
    shop = Shop.stocked()
    shop.add("test-b", 5, radius=0.4, split="test", teacher=False)
    assert set(shop.evaluated(tmp_path, "test-b").quality) == METHODS - {"teacher"}


def test_without_truth_only_labelled_proxies_are_given(tmp_path: Path) -> None:
    shop = Shop.stocked()
    shop.add("test-b", 5, radius=0.45, split="test", truth=False)
    output = shop.evaluated(tmp_path, "test-b")
    assert output.facts["basis"] == "proxy"
    assert set(output.quality["student"]) == {"proxy_chamfer_to_teacher", "proxy_silhouette_iou"}
    assert set(output.quality["teacher"]) == {"proxy_silhouette_iou"}
    assert output.quality["student"]["proxy_silhouette_iou"] == pytest.approx((0.4 / 0.45) ** 2, abs=0.05)
    assert "icosphere_fit" not in output.quality


def test_a_diverged_student_is_an_empty_output(tmp_path: Path, student: BallStudent) -> None:
    student.vertices_scale = float("nan")
    with pytest.raises(EmptyOutput, match="diverged"):
        Shop.stocked().evaluated(tmp_path)


def test_references_are_made_once_and_anew_when_a_training_item_changes(tmp_path: Path) -> None:
    shop = Shop.stocked()
    shop.evaluated(tmp_path)
    folder = tmp_path / "work" / "references"
    (home,) = (path for path in folder.iterdir() if path.is_dir())
    (home / "made once").touch()
    shop.evaluated(tmp_path)
    assert (home / "made once").exists()
    shop.add("train-c", 3, radius=0.2, split="train")
    shop.evaluated(tmp_path)
    assert not home.exists()


def test_latency_lies_beside_the_records_and_not_in_them(tmp_path: Path) -> None:
    output = Shop.stocked().evaluated(tmp_path)
    latency = json.loads((tmp_path / "work" / "latency.json").read_text())
    assert 0 < latency["p50_s"] <= latency["p95_s"]
    assert latency["num_runs"] >= 10
    assert "p50" not in json.dumps([output.quality, output.facts])


def test_only_the_chosen_split_is_wanted(tmp_path: Path) -> None:
    shop = Shop.stocked()
    assert set(shop.keys(tmp_path)) == {"test-a"}
    assert set(shop.keys(tmp_path, split="train")) == {"train-a", "train-b"}
    context = shop.context(tmp_path)
    assert Evaluate().unwanted("train-a", context) == "it is in the train split; test is evaluated"
    assert [Evaluate().unwanted(item_id, context) for item_id in ("test-a", "new")] == [None, None]


def test_the_key_follows_the_student_the_item_and_the_training_items(tmp_path: Path) -> None:
    before = Shop.stocked().keys(tmp_path)["test-a"]
    assert Shop.stocked().keys(tmp_path)["test-a"] == before
    retrained, taught, grown = Shop.stocked(), Shop.stocked(), Shop.stocked()
    files = {**STUDENT, "student.safetensors": b"other weights"}
    retrained.upstreams["train"]["train"] = make_record(files, item_id="train"), files
    taught.add("test-a", 2, radius=0.45, split="test", teacher=False)
    del taught.upstreams["teach"]["test-a"]
    grown.add("train-c", 3, radius=0.2, split="train")
    assert all(shop.keys(tmp_path)["test-a"] != before for shop in (retrained, taught, grown))


def test_training_items_do_not_matter_to_methods_that_ignore_them(tmp_path: Path) -> None:
    grown = Shop.stocked()
    grown.add("train-c", 3, radius=0.2, split="train")
    assert grown.keys(tmp_path, baselines=["ellipsoid"]) == Shop.stocked().keys(tmp_path, baselines=["ellipsoid"])


def test_views_that_no_method_reads_are_not_in_the_key(tmp_path: Path) -> None:
    names = {name for name, _ in Shop.stocked().keys(tmp_path)["test-a"]}
    assert {"matte/view.front.png", "matte/view.left.png", "matte/cameras.json"} <= names
    assert "matte/view.ring_00.png" not in names


def test_items_are_skipped_with_the_reason_where_nothing_can_be_compared(tmp_path: Path) -> None:
    shop = Shop.stocked()
    shop.add("test-b", 5, radius=0.45, split="test", truth=False, teacher=False)
    del shop.upstreams["matte"]["test-b"]
    skips = {wanted.id: wanted.skip for wanted in Evaluate().wanted(shop.context(tmp_path))}
    assert skips["test-a"] is None
    assert "nothing to compare with" in str(skips["test-b"])
    del shop.upstreams["train"]["train"]
    (skipped, _) = Evaluate().wanted(shop.context(tmp_path))
    assert "no trained student" in str(skipped.skip)


def test_metrics_pool_by_method_and_class_and_name_protocol_and_floor(tmp_path: Path) -> None:
    shop = Shop.stocked()
    shop.add("test-b", 5, radius=0.4, split="test", teacher=False)
    shop.add("test-c", 6, radius=0.4, split="test", truth=False)
    context = shop.context(tmp_path)
    records = []
    for item_id in ("test-c", "test-b", "test-a"):
        output = shop.evaluated(tmp_path, item_id)
        records.append(make_record({}, item_id=item_id, facts=output.facts, quality=output.quality))
    metrics = Evaluate().metrics(iter(records), context)
    test = metrics["test"]
    rows = {row["id"]: row for row in metrics["per_item"]}
    assert (test["num_items"], test["student"]["num_items"], test["teacher"]["num_items"]) == (2, 2, 1)
    mean = (rows["test-a"]["student"] + rows["test-b"]["student"]) / 2
    assert test["student"]["chamfer"] == pytest.approx(mean, abs=1e-6)
    interval = test["student"]["interval"]["chamfer"]
    assert interval["low"] <= test["student"]["chamfer"] <= interval["high"]
    assert test["by_class"]["ball"]["student"] == test["student"]
    assert set(metrics["comparison"]) == METHODS - {"student"}
    assert metrics["proxy"]["student"]["num_items"] == 1
    assert metrics["protocol"]["num_points"] == 1_000
    assert 0 < metrics["floor"]["chamfer"] < 0.05
    assert json.dumps(metrics) == json.dumps(Evaluate().metrics(iter(records[::-1]), context))


def test_without_any_item_the_metrics_are_empty_and_not_an_error(tmp_path: Path) -> None:
    assert Evaluate().metrics(iter([]), Shop.stocked().context(tmp_path))["test"] == {"num_items": 0, "by_class": {}}


def test_an_unknown_baseline_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'mean_shape', 'nearest', 'ellipsoid' or 'icosphere_fit'"):
        list(Evaluate().wanted(Shop.stocked().context(tmp_path, baselines=["median"])))

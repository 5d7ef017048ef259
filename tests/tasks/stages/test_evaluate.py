import json
from dataclasses import dataclass, replace
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
from models.needs import TOKENS, Given
from models.students import Ask
from models.views import encode_png
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, Output, Wanted
from tasks.stages.evaluate import Evaluate
from tasks.stages.evaluate.methods import record_id
from tests.support import TOY_KEY, make_context, make_record

PARAMS = {"evaluate": {"num_points": 1_000, "iou_resolution": 24, "icosphere_fit_steps": 10}}
SIZE_PX = 48
VIEWS = ("front", "left")
STUDENT = {"student.json": b"{}", "student.safetensors": b"weights"}
METHODS = {"student", "teacher", "mean_shape", "nearest", "ellipsoid", "icosphere_fit"}
Keys = dict[str, tuple[tuple[str, str], ...]]


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
        shop = Shop({name: {} for name in Evaluate.upstreams})
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
        self._put("features", item_id, {"grids.safetensors": grids(seed)}, {"views": list(VIEWS), "encoder": "toy"})
        self._put("matte", item_id, matted(mesh), {})
        if teacher:
            self._put("teach", item_id, {"mesh.glb": ball(radius * 0.98).to_glb()}, {})

    def _put(self, stage: str, item_id: str, files: dict[str, bytes], facts: dict[str, Any]) -> None:
        self.upstreams[stage][item_id] = make_record(files, item_id=item_id, facts=facts), files

    def context(self, folder: Path, *, train: Any = None, **params: Any) -> Context:
        blocks = {"evaluate": {**PARAMS["evaluate"], **params}, "train": train or {}}
        return make_context(folder, blocks, upstreams=self.upstreams)

    def wanted(self, folder: Path, item_id: str | None = None, **params: Any) -> list[Wanted]:
        """Of one item, or of all."""
        found = list(Evaluate().wanted(self.context(folder, **params)))
        return [one for one in found if item_id in (None, one.item)]

    def keys(self, folder: Path, item_id: str = "test-a", **params: Any) -> Keys:
        """What is in the keys of an item, by method."""
        return {one.payload: one.inputs for one in self.wanted(folder, item_id, **params)}

    def evaluated(self, folder: Path, item_id: str = "test-a", **params: Any) -> dict[str, Output]:
        """Every method's output for an item."""
        context = self.context(folder, **params)
        wanted = self.wanted(folder, item_id, **params)
        payloads = {one.id: one.payload for one in wanted}
        run = Evaluate().start(replace(context, payload=payloads.__getitem__))

        def read(stage: str, _: str, name: str) -> bytes:
            return self.upstreams[stage][item_id][1][name]

        return {one.payload: run(Item(one.id, TOY_KEY, one.label, one.records, read)) for one in wanted}

    def quality(self, folder: Path, item_id: str = "test-a", **params: Any) -> dict[str, Any]:
        """Figures by method."""
        return {name: output.quality for name, output in self.evaluated(folder, item_id, **params).items()}


class BallStudent:
    """Whatever it sees, a ball of radius .4."""

    network = SimpleNamespace(to=lambda device: None)
    vertices_scale = 1.0

    def predict(self, item: Given, ask: Ask) -> Mesh:
        assert set(item(TOKENS)) == set(VIEWS)
        return Mesh(ball(0.4).vertices_N3 * np.float32(self.vertices_scale), ball(0.4).faces_F3)

    def asks(self, item: Given) -> dict[str, Ask]:
        return {}


@pytest.fixture(autouse=True)
def student(monkeypatch: pytest.MonkeyPatch) -> BallStudent:
    made = BallStudent()
    monkeypatch.setattr("tasks.stages.evaluate.judge.load_student", lambda files, options: made)
    monkeypatch.setattr("tasks.stages.evaluate.latency.TIME_LIMIT_S", 0.01)
    return made


def test_every_method_is_compared_with_the_truth(tmp_path: Path) -> None:
    outputs = Shop.stocked().evaluated(tmp_path)
    chamfer = {method: output.quality["chamfer"] for method, output in outputs.items()}
    assert set(chamfer) == METHODS | {"floor"}
    assert {output.facts["basis"] for output in outputs.values()} == {"truth"}
    assert chamfer["student"] == pytest.approx(0.05, abs=0.01)
    mean_volume_radius = ((0.3**3 + 0.5**3) / 2) ** (1 / 3)
    assert chamfer["mean_shape"] == pytest.approx(0.45 - mean_volume_radius, abs=0.015)
    assert chamfer["ellipsoid"] < chamfer["nearest"]
    assert chamfer["floor"] < chamfer["icosphere_fit"] < chamfer["student"]
    assert {method for method, output in outputs.items() if output.files} == {"student", "mean_shape"}
    assert set(outputs["student"].files) == {"mesh.glb"}


def test_nearest_is_the_training_item_of_the_nearest_features(tmp_path: Path) -> None:
    assert Shop.stocked().evaluated(tmp_path)["nearest"].facts["nearest"] == "train-b"


def test_equal_inputs_give_equal_outputs(tmp_path: Path) -> None:
    assert Shop.stocked().evaluated(tmp_path / "a") == Shop.stocked().evaluated(tmp_path / "b")


def test_a_missing_teacher_leaves_its_column_out(tmp_path: Path) -> None:
    shop = Shop.stocked()
    shop.add("test-b", 5, radius=0.4, split="test", teacher=False)
    assert set(shop.quality(tmp_path, "test-b")) == (METHODS | {"floor"}) - {"teacher"}


def test_without_truth_only_labelled_proxies_are_given(tmp_path: Path) -> None:
    shop = Shop.stocked()
    shop.add("test-b", 5, radius=0.45, split="test", truth=False)
    outputs = shop.evaluated(tmp_path, "test-b")
    assert {output.facts["basis"] for output in outputs.values()} == {"proxy"}
    quality = {method: output.quality for method, output in outputs.items()}
    assert set(quality["student"]) == {"proxy_chamfer_to_teacher", "proxy_silhouette_iou"}
    assert set(quality["teacher"]) == {"proxy_silhouette_iou"}
    assert quality["student"]["proxy_silhouette_iou"] == pytest.approx((0.4 / 0.45) ** 2, abs=0.05)
    assert not {"icosphere_fit", "floor"} & quality.keys()


def test_a_diverged_student_is_an_empty_output(tmp_path: Path, student: BallStudent) -> None:
    student.vertices_scale = float("nan")
    with pytest.raises(EmptyOutput, match="not finite"):
        Shop.stocked().evaluated(tmp_path)


def test_further_asks_of_the_student_are_measured_by_name(tmp_path: Path, student: BallStudent) -> None:
    student.asks = lambda item: {"smaller": Ask(options={"scale": 0.5})}  # type: ignore[method-assign]
    predict = student.predict

    def scaled(item: Given, ask: Ask) -> Mesh:
        mesh = predict(item, ask)
        return Mesh(mesh.vertices_N3 * np.float32(ask.options.get("scale", 1)), mesh.faces_F3)

    student.predict = scaled  # type: ignore[method-assign]
    quality = Shop.stocked().quality(tmp_path)["student"]
    assert quality["chamfer"] == pytest.approx(0.05, abs=0.01)
    assert quality["smaller/chamfer"] == pytest.approx(0.25, abs=0.01)


def test_another_student_or_baseline_leaves_the_keys_of_the_others_alone(tmp_path: Path) -> None:
    shop = Shop.stocked()
    before = shop.keys(tmp_path)
    shop.upstreams["train"]["seed1"] = make_record(STUDENT, item_id="seed1"), STUDENT
    after = shop.keys(tmp_path, train={"variants": {"seed1": {"train.seed": 1}}})
    assert after.keys() - before.keys() == {"seed1"}
    assert {method: after[method] for method in before} == before
    fewer = shop.keys(tmp_path, baselines=["ellipsoid"])
    assert all(before[method] == inputs for method, inputs in fewer.items())


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
    outputs = Shop.stocked().evaluated(tmp_path)
    latency = json.loads((tmp_path / "work" / "latency.json").read_text())
    assert 0 < latency["p50_s"] <= latency["p95_s"]
    assert latency["num_runs"] >= 10
    assert "p50" not in json.dumps([[output.quality, output.facts] for output in outputs.values()])


def test_only_the_chosen_split_is_wanted(tmp_path: Path) -> None:
    shop = Shop.stocked()
    assert {one.item for one in shop.wanted(tmp_path)} == {"test-a"}
    assert {one.item for one in shop.wanted(tmp_path, split="train")} == {"train-a", "train-b"}
    context = shop.context(tmp_path)
    assert Evaluate().unwanted("train-a", context) == "it is in the train split; test is evaluated"
    assert [Evaluate().unwanted(item_id, context) for item_id in ("test-a", "new")] == [None, None]


def test_without_any_held_out_item_all_are_skipped_with_the_remedy(tmp_path: Path) -> None:
    shop = Shop.stocked()
    for stage in shop.upstreams.values():
        stage.pop("test-a", None)
    assert {(one.item, one.skip) for one in shop.wanted(tmp_path)} == {
        (item_id, "no item is in the test split; add items, raise ingest.split, or set evaluate.split")
        for item_id in ("train-a", "train-b")
    }


def test_an_items_records_have_ids_that_the_plan_can_foresee(tmp_path: Path) -> None:
    shop = Shop.stocked()
    wanted = shop.wanted(tmp_path)
    assert {one.id for one in wanted} == set(Evaluate().ids_of("test-a", shop.context(tmp_path).params))
    assert all(one.id.startswith("test-a-") for one in wanted)


def test_each_methods_key_follows_what_it_reads(tmp_path: Path) -> None:
    before = Shop.stocked().keys(tmp_path)
    assert Shop.stocked().keys(tmp_path) == before
    retrained, taught, grown, moved = Shop.stocked(), Shop.stocked(), Shop.stocked(), Shop.stocked()
    files = {**STUDENT, "student.safetensors": b"other weights"}
    retrained.upstreams["train"]["train"] = make_record(files, item_id="train"), files
    other = {"mesh.glb": ball(0.2).to_glb()}
    taught.upstreams["teach"]["test-a"] = make_record(other, item_id="test-a"), other
    grown.add("train-c", 3, radius=0.2, split="train")
    moved.add("test-a", 2, radius=0.44, split="test")

    def changed(shop: Shop) -> set[str]:
        after = shop.keys(tmp_path)
        return {method for method in before if after[method] != before[method]}

    assert changed(retrained) == {"student"}
    assert changed(taught) == {"teacher"}
    assert changed(grown) == {"mean_shape", "nearest"}
    assert changed(moved) == METHODS | {"floor"}


def test_whether_there_is_truth_is_in_the_key(tmp_path: Path) -> None:
    shop = Shop.stocked()
    before = shop.keys(tmp_path)["student"]
    record, files = shop.upstreams["ingest"]["test-a"]
    shop.upstreams["ingest"]["test-a"] = record._replace(facts={**record.facts, "has_truth": False}), files
    assert dict(shop.keys(tmp_path)["student"])["ingest facts"] != dict(before)["ingest facts"]


def test_the_icosphere_is_fitted_to_other_samples_than_those_it_is_measured_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def fit(truth: Mesh, *, num_steps: int, seed: int) -> Mesh:
        seeds.append(seed)
        return truth

    monkeypatch.setattr("tasks.stages.evaluate.judge.fit_icosphere", fit)
    Shop.stocked().evaluated(tmp_path, seed=5)
    assert len(seeds) == 1
    assert not {5, 6} & set(seeds)  # of the truth's samples, and of every prediction's


def test_views_that_a_method_does_not_read_are_not_in_its_key(tmp_path: Path) -> None:
    names = {method: {name for name, _ in inputs} for method, inputs in Shop.stocked().keys(tmp_path).items()}
    assert {"matte/view.front.png", "matte/view.left.png", "matte/cameras.json"} <= names["ellipsoid"]
    assert "matte/view.ring_00.png" not in names["ellipsoid"]
    assert not any(name.startswith("matte/") for name in names["student"])


def test_items_are_skipped_with_the_reason_where_nothing_can_be_compared(tmp_path: Path) -> None:
    shop = Shop.stocked()
    shop.add("test-b", 5, radius=0.45, split="test", truth=False, teacher=False)
    del shop.upstreams["matte"]["test-b"]
    assert {one.skip for one in shop.wanted(tmp_path, "test-a")} == {None}
    (skipped,) = shop.wanted(tmp_path, "test-b")
    assert "nothing to compare with" in str(skipped.skip)
    del shop.upstreams["features"]["test-b"]
    (skipped,) = shop.wanted(tmp_path, "test-b")
    assert skipped.skip == "it has no encoder tokens"
    del shop.upstreams["train"]["train"]
    (skipped,) = shop.wanted(tmp_path, "test-a")
    assert "no trained student" in str(skipped.skip)


def test_metrics_pool_by_method_and_class_and_name_protocol_and_floor(tmp_path: Path) -> None:
    shop = Shop.stocked()
    shop.add("test-b", 5, radius=0.4, split="test", teacher=False)
    shop.add("test-c", 6, radius=0.4, split="test", truth=False)
    context = shop.context(tmp_path)
    records = []
    for item_id in ("test-c", "test-b", "test-a"):
        for method, output in shop.evaluated(tmp_path, item_id).items():
            own = record_id(item_id, method)
            records.append(make_record({}, item_id=own, facts=output.facts, quality=output.quality))
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

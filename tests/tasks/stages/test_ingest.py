import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from models.errors import BadInput
from models.geometry import FRAME
from models.views import decode_rgba
from tasks.collections.records import Record
from tasks.engine.stage import Context, Item, Output, Wanted
from tasks.stages.ingest import Ingest, IngestParams, Split

REAL_DATA = Path(__file__).parents[2].parent / "shared" / "data"


class OneBlock:
    """Params that hold ingest's block alone."""

    def __init__(self, block: IngestParams) -> None:
        self._block = block

    def stage(self, name: str) -> IngestParams:
        assert name == "ingest"
        return self._block


def context_of(workspace: Path, payloads: dict[str, Any] | None = None, **params: Any) -> Context:
    block = OneBlock(IngestParams(**params))
    payload = (payloads or {}).get
    return Context(workspace, block, "cpu", 1, workspace / "work", {}, lambda _: None, payload)


def wanted(workspace: Path, **params: Any) -> list[Wanted]:
    return list(Ingest().wanted(context_of(workspace, **params)))


def ingest(workspace: Path, item: Wanted, **params: Any) -> Output:
    run = Ingest().start(context_of(workspace, {item.id: json.loads(json.dumps(item.payload))}, **params))
    return run(Item(item.id, "key", item.label, {}, lambda *_: b""))


def write_box(path: Path, extents: tuple[float, float, float] = (1, 2, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.creation.box(extents).export(path)


def write_photo(path: Path, width: int = 6, height: int = 4, **save: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = [255, 0, 0]
    Image.fromarray(pixels).save(path, **save)


def facts(item: Wanted) -> dict[str, Any]:
    value: dict[str, Any] = item.payload["facts"]
    return value


def test_a_mesh_becomes_a_glb_in_the_canonical_frame(tmp_path: Path) -> None:
    write_box(tmp_path / "inbox" / "shoes" / "a.ply")
    (item,) = wanted(tmp_path)
    output = ingest(tmp_path, item)
    assert list(output.files) == ["mesh.glb"]
    assert output.frame == FRAME
    assert {name: output.facts[name] for name in ("label", "class", "kind", "has_truth", "triangles", "extents")} == {
        "label": "shoes/a",
        "class": "shoes",
        "kind": "mesh",
        "has_truth": True,
        "triangles": 12,
        "extents": [1.0, 2.0, 4.0],
    }
    assert output == ingest(tmp_path, item)


def test_photos_become_upright_rgba_by_view(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: shown 90 degrees clockwise
    write_photo(tmp_path / "inbox" / "a_front.png")
    write_photo(tmp_path / "inbox" / "a_left.jpg", 60, 40, exif=exif, quality=95)
    (item,) = wanted(tmp_path)
    output = ingest(tmp_path, item)
    assert sorted(output.files) == ["photo.front.png", "photo.left.png"]
    assert (output.frame, output.facts["kind"], output.facts["has_truth"]) == (None, "photo_set", False)
    turned = decode_rgba(output.files["photo.left.png"])
    assert turned.shape == (60, 40, 4)
    assert turned[30, 38, 0] > 200 > 50 > turned[30, 1, 0], "the red half was above and is on the right"


def test_photos_are_shrunk_to_the_limit(tmp_path: Path) -> None:
    write_photo(tmp_path / "inbox" / "a.png", 64, 32)
    (item,) = wanted(tmp_path)
    assert decode_rgba(ingest(tmp_path, item, max_photo_px=16).files["photo.front.png"]).shape == (8, 16, 4)


def test_a_renamed_file_keeps_its_id_and_split_and_changes_its_inputs(tmp_path: Path) -> None:
    write_box(tmp_path / "inbox" / "a.glb")
    write_box(tmp_path / "inbox" / "z.glb", (1, 1, 1))
    before, other = wanted(tmp_path)
    (tmp_path / "inbox" / "a.glb").rename(tmp_path / "inbox" / "b.glb")
    after, same = wanted(tmp_path)
    assert (after.id, facts(after)["split"]) == (before.id, facts(before)["split"])
    assert after.inputs != before.inputs
    assert after.inputs[0] == before.inputs[0]
    assert same == other


def test_equal_files_are_one_item_and_counted(tmp_path: Path) -> None:
    for name in ("a.glb", "b.glb", "sub/c.glb"):
        write_box(tmp_path / "inbox" / name)
    (tmp_path / "inbox" / "readme.txt").write_text("hello")
    stage = Ingest()
    items = list(stage.wanted(context_of(tmp_path)))
    assert [item.label for item in items] == ["a"]
    metrics = stage.metrics([Record(items[0].id, "k", {}, facts=facts(items[0]))], context_of(tmp_path))
    assert metrics == {
        "class": {"object": 1},
        "split": {facts(items[0])["split"]: 1},
        "kind": {"mesh": 1},
        "source": {"folder": 1},
        "num_duplicates": 2,
        "num_ignored_files": 1,
        "num_unreadable": 0,
    }


def test_an_empty_inbox_gives_generated_shoes(tmp_path: Path) -> None:
    items = wanted(tmp_path)
    assert len(items) == 96
    output = ingest(tmp_path, items[7])
    assert output.facts["label"] == "shoe-0007"
    assert output.facts["colour"] == "vertex"
    assert {"style", "material", "colour", "size"} <= set(output.facts["labels"])
    assert set(Counter(facts(item)["split"] for item in items)) == {"train", "val", "test"}


def test_a_bad_item_says_why(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (inbox / "dangling.glb").symlink_to("nowhere")
    (inbox / "empty.glb").write_bytes(b"")
    (inbox / "empty.jpg").write_bytes(b"")
    messages = {}
    for item in wanted(tmp_path):
        with pytest.raises(BadInput) as caught:
            ingest(tmp_path, item)
        messages[item.label] = str(caught.value)
    assert "not a readable image" in messages["cut"]
    assert "No such file" in messages["dangling"]
    assert messages["empty"] == "the file is empty (0 bytes)"


def test_splits_are_of_the_group_and_near_their_shares() -> None:
    split = Split(val=0.2, test=0.1)
    counts = Counter(split.of(f"group {index}") for index in range(20_000))
    assert counts["val"] / 20_000 == pytest.approx(0.2, abs=0.01)
    assert counts["test"] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert split.of("a") == Split(val=0.2, test=0.1).of("a")
    assert [Split(seed=1).of(f"{i}") for i in range(40)] != [Split(seed=2).of(f"{i}") for i in range(40)]
    assert Split(val=0, test=0).of("a") == "train"
    assert Split(val=0, test=1).of("a") == "test"


def test_items_of_a_group_share_a_split_and_splits_do_not_depend_on_other_items(tmp_path: Path) -> None:
    source = {"source": "folder", "group": r"(\w+)_\d"}
    for index in range(12):
        write_box(tmp_path / "inbox" / f"g{index // 4}_{index}.glb", (1, 1, 1 + index))
    before = {item.id: facts(item)["split"] for item in wanted(tmp_path, sources=[source])}
    for index in range(12, 20):
        write_box(tmp_path / "inbox" / f"x_{index}.glb", (1, 1, 1 + index))
    items = wanted(tmp_path, sources=[source])
    after = {item.id: facts(item)["split"] for item in items}
    assert after | before == after
    by_group = {(facts(item)["group"], facts(item)["split"]) for item in items}
    assert len(by_group) == len({group for group, _ in by_group}) == 4


def test_a_limit_takes_a_stable_sample(tmp_path: Path) -> None:
    generated = [{"source": "generated", "count": 40}]
    all_ids = sorted(item.id for item in wanted(tmp_path, sources=generated))
    assert [item.id for item in wanted(tmp_path, sources=generated, limit=5)] == all_ids[:5]


def test_only_what_changes_a_result_enters_the_key() -> None:
    stage = Ingest()
    base = stage.key_params(OneBlock(IngestParams()))
    same = IngestParams(limit=3, inbox="elsewhere", sources=({"source": "generated"},), split={"seed": 9})
    assert stage.key_params(OneBlock(same)) == base
    assert stage.key_params(OneBlock(IngestParams(max_triangles=10))) != base


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"sources": [{"source": "web"}]}, "unknown plug-in 'web' in sources; there are: folder, generated"),
        ({"sources": [{"path": "x"}]}, r"`source: NAME`.*there are: folder, generated"),
        ({"sources": [{"source": "folder", "glob": "*"}]}, "source folder, key glob: .*its keys are: path, recursive"),
        ({"sources": [{"source": "generated", "shape": "hat"}]}, "source generated, key shape: "),
        ({"split": {"val": 0.6, "test": 0.6}}, r"val \+ test is 1.2, over 1"),
    ],
)
def test_wrong_params_are_answered_with_what_exists(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IngestParams(**params)


def test_params_survive_a_round_trip() -> None:
    block = IngestParams(sources=[{"source": "folder", "path": "a", "up": {"b*": "z"}}, {"source": "generated"}])
    assert IngestParams.model_validate(block.model_dump(mode="json")) == block


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the optional real data is not there")
def test_the_real_data_goes_through(tmp_path: Path) -> None:
    params = {"inbox": str(REAL_DATA), "sources": [{"source": "folder", "exclude": ["masks/*"]}]}
    items = wanted(tmp_path, **params)
    assert Counter(facts(item)["kind"] for item in items) == {"mesh": 51, "photo": 6}
    assert Counter(facts(item)["up_axis"] for item in items) == {"z": 37, "y": 14, None: 6}
    assert all("unstated" not in facts(item)["licence"] for item in items if facts(item)["kind"] == "mesh")
    for item in items[::6]:
        output = ingest(tmp_path, item, **params)
        if "mesh.glb" in output.files:
            scene = trimesh.load_scene(io.BytesIO(output.files["mesh.glb"]), file_type="glb")
            assert np.ptp(scene.bounds, axis=0).max() == pytest.approx(1, abs=1e-5)

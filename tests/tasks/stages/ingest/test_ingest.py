import io
import json
import os
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
from tasks.collections.records import Record, from_line, to_line
from tasks.engine.stage import Context, Item, Output, Wanted, item_key
from tasks.stages.ingest import Ingest, IngestParams
from tests.support import ROOT

REAL_DATA, CASES = ROOT.parent / "shared" / "data", ROOT.parent / "shared" / "cases"


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
    return Context(workspace, block, "cpu", 1, workspace / "work", {}, lambda _: None, payload=payload)


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


def test_a_renamed_file_keeps_its_id_and_changes_its_inputs(tmp_path: Path) -> None:
    write_box(tmp_path / "inbox" / "a.glb")
    write_box(tmp_path / "inbox" / "z.glb", (1, 1, 1))
    no_draw = {"split": {"val": 0, "test": 0}}
    before, other = wanted(tmp_path, **no_draw)
    (tmp_path / "inbox" / "a.glb").rename(tmp_path / "inbox" / "b.glb")
    after, same = wanted(tmp_path, **no_draw)
    assert after.id == before.id
    assert after.inputs != before.inputs
    assert after.inputs[0] == before.inputs[0]
    assert same == other


def published(stage: Ingest, workspace: Path, items: list[Wanted], **params: Any) -> dict[str, Any]:
    """The metrics of the items, each ingested."""
    records = [Record(item.id, "k", {}, facts=ingest(workspace, item).facts) for item in items]
    return stage.metrics(records, context_of(workspace, **params))


def test_what_is_not_taken_is_counted_by_kind_and_told(tmp_path: Path) -> None:
    for name in ("a.glb", "b.glb", "sub/c.glb"):
        write_box(tmp_path / "inbox" / name)
    for name in ("d.fbx", "e.fbx", "readme.txt"):
        (tmp_path / "inbox" / name).write_text("hello")
    stage = Ingest()
    items = list(stage.wanted(context_of(tmp_path)))
    assert [item.label for item in items] == ["a"]
    told = "not taken: 2 .fbx (export as .glb), 2 with the bytes of another, 1 .txt"
    assert stage.notices(context_of(tmp_path))[0] == told
    metrics = published(stage, tmp_path, items)
    assert metrics["notices"][0] == told
    assert {name: metrics[name] for name in ("class", "split", "kind", "source", "num_not_taken")} == {
        "class": {"object": 1},
        "split": {"train": 1},
        "kind": {"mesh": 1},
        "source": {"folder": 1},
        "num_not_taken": 5,
    }
    assert metrics["not_taken"] == [
        {"what": ".fbx (export as .glb)", "count": 2, "first": ["d.fbx", "e.fbx"]},
        {"what": "with the bytes of another", "count": 2, "first": ["b (of a)", "sub/c (of a)"]},
        {"what": ".txt", "count": 1, "first": ["readme.txt"]},
    ]


def test_a_file_that_two_sources_find_is_no_duplicate(tmp_path: Path) -> None:
    write_box(tmp_path / "inbox" / "shoes" / "a.glb")
    stage = Ingest()
    sources = [{"source": "folder", "path": "shoes", "up_axis": "z"}, {"source": "folder"}]
    items = list(stage.wanted(context_of(tmp_path, sources=sources)))
    assert [(item.label, facts(item)["up_axis"]) for item in items] == [("a", "z")]
    assert published(stage, tmp_path, items)["num_not_taken"] == 0


def test_an_absent_or_empty_inbox_is_never_replaced_by_generated_objects(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no folder at .*/inbox \(ingest\.inbox\)"):
        wanted(tmp_path)
    (tmp_path / "inbox").mkdir()
    for sources in ([{"source": "folder"}], [{"source": "folder"}, {"source": "generated"}]):
        with pytest.raises(ValueError, match="no mesh and no photo in"):
            wanted(tmp_path, sources=sources)


def test_generated_objects_come_where_params_name_them(tmp_path: Path) -> None:
    items = wanted(tmp_path, sources=[{"source": "generated"}])
    assert len(items) == 96
    output = ingest(tmp_path, items[7])
    assert output.facts["label"] == "shoe-0007"
    assert output.facts["colour"] == "vertex"
    assert {"style", "material", "colour", "size"} <= set(output.facts["labels"])
    assert set(Counter(facts(item)["split"] for item in items)) == {"train", "val", "test"}


def test_the_same_object_as_mesh_in_two_formats_and_as_photos_is_in_one_split(tmp_path: Path) -> None:
    for index in range(20):
        for suffix in ("glb", "stl"):
            write_box(tmp_path / "inbox" / f"box{index}.{suffix}", (1, 1, 1 + index))
        write_photo(tmp_path / "inbox" / f"box{index}_left.png", 6 + index)
    splits: dict[str, set[str]] = {}
    for item in wanted(tmp_path):
        splits.setdefault(facts(item)["group"], set()).add(facts(item)["split"])
    assert len(splits) == 20
    assert all(len(found) == 1 for found in splits.values())
    assert {name for found in splits.values() for name in found} == {"train", "val", "test"}


def test_one_object_under_two_names_in_different_splits_is_told(tmp_path: Path) -> None:
    write_box(tmp_path / "inbox" / "glb" / "boot.glb", (1, 2, 3))
    write_box(tmp_path / "inbox" / "stl" / "boot.stl", (10, 20, 30))
    write_box(tmp_path / "inbox" / "glb" / "cube.glb", (1, 1, 1))
    stage, named = Ingest(), {"named": {"glb/*": "train", "stl/*": "test"}}
    items = list(stage.wanted(context_of(tmp_path, split=named)))
    metrics = published(stage, tmp_path, items, split=named)
    assert metrics["alike"] == {
        "num_pairs": 1,
        "num_in_different_splits": 1,
        "in_different_splits": [["glb/boot", "stl/boot"]],
    }
    told = metrics["notices"][-1]
    assert told.startswith("1 pair of objects in different splits nearly of one shape: glb/boot and stl/boot; if they")
    (tmp_path / "artifacts" / "ingest").mkdir(parents=True)
    (tmp_path / "artifacts" / "ingest" / "metrics.json").write_text(json.dumps(metrics))
    assert stage.notices(context_of(tmp_path))[-1] == told
    together = {"named": {"*": "train"}}
    items = list(stage.wanted(context_of(tmp_path, split=together)))
    assert published(stage, tmp_path, items, split=together)["alike"]["num_in_different_splits"] == 0


def test_up_axis_is_of_the_source_else_of_the_workspace(tmp_path: Path) -> None:
    write_box(tmp_path / "inbox" / "a.stl", (1, 2, 4))
    write_box(tmp_path / "inbox" / "b.glb", (1, 2, 5))
    a, b = wanted(tmp_path, up_axis="z", sources=[{"source": "folder", "up": {"*.glb": "y"}}])
    assert ingest(tmp_path, a).facts["extents"] == [1.0, 4.0, 2.0]
    assert ingest(tmp_path, b).facts["extents"] == [1.0, 2.0, 5.0]
    (generated,) = wanted(tmp_path, up_axis="z", sources=[{"source": "generated", "count": 1}])
    assert facts(generated)["up_axis"] == "y"


def test_a_name_that_is_not_utf8_blocks_nobody(tmp_path: Path) -> None:
    write_photo(tmp_path / "inbox" / "good.png")
    write_photo(tmp_path / "inbox" / "x.png", 8, 8)
    (tmp_path / "inbox" / "x.png").rename(tmp_path / "inbox" / os.fsdecode(b"caf\xe9.png"))
    (tmp_path / "inbox" / os.fsdecode(b"\xff.txt")).write_text("")
    stage = Ingest()
    items = list(stage.wanted(context_of(tmp_path)))
    assert [item.label for item in items] == [r"caf\xe9", "good"]
    told = r"DVC fails at file names that are not UTF-8, and so does `dvc repro`: rename caf\xe9, \xff.txt"
    assert stage.notices(context_of(tmp_path))[1] == told
    for item in items:
        output = ingest(tmp_path, item)
        record = Record(item.id, item_key("recipe", item.inputs), {}, facts=output.facts)
        assert from_line(to_line(record)) == record
        assert list(output.files) == ["photo.front.png"]


@pytest.mark.skipif(not CASES.is_dir(), reason="the optional cases are not there")
def test_the_cases_of_awkward_photos_end_as_they_should(tmp_path: Path) -> None:
    def items_of(case: str) -> dict[tuple[str, str], Wanted]:
        items = wanted(tmp_path, inbox=str(CASES / case / "inbox"))
        return {(item.label, facts(item)["kind"]): item for item in items}

    assert list(items_of("19_view_folders")) == [("mug1", "photo_set"), ("mug2", "photo_set")]
    phone = items_of("18_heic_only")
    assert list(phone) == [("IMG_0001", "photo"), ("p", "photo"), ("scan", "photo")]
    for label in ("p", "scan"):
        assert decode_rgba(ingest(tmp_path, phone[label, "photo"]).files["photo.front.png"]).shape == (64, 96, 4)
    with pytest.raises(BadInput, match="not a readable image"):
        ingest(tmp_path, phone["IMG_0001", "photo"])
    unfetched = {}
    for name, item in items_of("20_lfs_pointers").items():
        with pytest.raises(BadInput) as caught:
            ingest(tmp_path, item)
        unfetched[name] = str(caught.value)
    assert "lfs_pointer.glb is a Git LFS pointer, not the file: run `git lfs pull`" in unfetched["lfs_pointer", "mesh"]
    assert "lfs_pointer.png is a Git LFS pointer" in unfetched["lfs_pointer", "photo"]
    assert "html_error.glb is a web page, not the file" in unfetched["html_error", "mesh"]


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

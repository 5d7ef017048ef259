import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import BadInput
from models.normalise import MeshFile
from tasks.collections.files import file_sha256
from tasks.stages.sources import Found, Ignored, summary
from tasks.stages.sources.folder import Params, find, load

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("a/b.obj", "text") lays a file in the inbox; without content it holds its own name."""

    def write(name: str, content: str | bytes | None = None) -> Path:
        path = tmp_path / "inbox" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = name if content is None else content
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


def listing(tmp_path: Path, **params: Any) -> list[Found | Ignored]:
    return list(find(Params(**params), tmp_path / "inbox", file_sha256))


def found(tmp_path: Path, **params: Any) -> list[Found]:
    return [entry for entry in listing(tmp_path, **params) if isinstance(entry, Found)]


def ignored(tmp_path: Path, **params: Any) -> dict[str, str]:
    return {entry.path: entry.what for entry in listing(tmp_path, **params) if isinstance(entry, Ignored)}


def labels(tmp_path: Path, **params: Any) -> list[str]:
    return [item.label for item in found(tmp_path, **params)]


def test_meshes_and_photos_are_found_in_order_whatever_the_case_of_their_suffix(tmp_path: Path, write: Write) -> None:
    meshes = ("b.GLB", "a.Ply", "c.off", "d.STL", "sub/i.Obj")
    photos = ("e.JPG", "f.jpeg", "g.WebP", "h.png", "l.HEIC", "m.heif", "n.Avif", "o.tif", "p.TIFF", "q.bmp", "r.jfif")
    for name in (*meshes, *photos):
        write(name)
    assert labels(tmp_path) == [*"abcdefghlmnopqr", "sub/i"]
    assert ignored(tmp_path) == {}


def test_files_that_are_not_read_are_named_with_what_to_do(tmp_path: Path, write: Write) -> None:
    for name in ("a.glb", "b.FBX", "c.usdz", "d.gif", "e.zip", "f.mov", "g.glb.txt", "h", "i.\x1b[31m"):
        write(name)
    assert ignored(tmp_path) == {
        "b.FBX": ".fbx (export as .glb)",
        "c.usdz": ".usdz (export as .glb)",
        "d.gif": ".gif (save as .png or .jpg)",
        "e.zip": ".zip (unpack it)",
        "f.mov": ".mov (take photos out of it)",
        "g.glb.txt": ".txt",
        "h": "without a suffix",
        "i.\x1b[31m": r".\x1b[31m",
    }


def test_what_is_ignored_is_summed_up_by_kind() -> None:
    kinds = [".fbx (export as .glb)"] * 3 + [".txt"] * 2 + [".bin"] * 2 + [".md"]
    entries = [Ignored(f"{index}", kind) for index, kind in enumerate(kinds)]
    assert summary(entries) == "3 .fbx (export as .glb), 2 .bin, 2 .txt, 1 .md"
    assert summary(entries, most=2) == "3 .fbx (export as .glb), 2 .bin and 3 more"


def test_an_absent_folder_is_a_mistake_and_names_the_param(tmp_path: Path, write: Write) -> None:
    with pytest.raises(
        ValueError, match=r"no folder at .*/inbox \(ingest\.inbox\): is it spelt right.*--generated shoes"
    ):
        listing(tmp_path)
    write("a.glb")
    with pytest.raises(ValueError, match=r"no folder at .*nowhere \(ingest\.sources: folder, path: nowhere\)"):
        listing(tmp_path, path="nowhere")


def test_a_folder_without_a_mesh_or_photo_is_a_mistake_that_says_what_is_there(tmp_path: Path, write: Write) -> None:
    (tmp_path / "inbox").mkdir()
    with pytest.raises(ValueError, match=r"no mesh and no photo in .*/inbox\. Put meshes or photos there"):
        listing(tmp_path)
    write("a.fbx")
    with pytest.raises(ValueError, match=r"in .*/inbox; there are 1 \.fbx \(export as \.glb\)\. Put"):
        listing(tmp_path)
    write("b.glb")
    with pytest.raises(ValueError, match="no mesh and no photo that include and exclude leave in"):
        listing(tmp_path, include=("*.obj",))


def test_a_path_is_a_folder_inside_the_inbox_and_never_outside(tmp_path: Path, write: Write) -> None:
    write("other/a.glb")
    write("b.glb")
    assert labels(tmp_path, path="other") == ["a"]
    with pytest.raises(ValueError, match=r"lies outside the inbox"):
        listing(tmp_path, path="../elsewhere")


def test_the_id_is_of_the_bytes_and_not_of_the_name(tmp_path: Path, write: Write) -> None:
    write("a.glb", "same")
    write("b/c.glb", "same")
    write("d.glb", "other")
    first, second, third = found(tmp_path)
    assert first.id == second.id != third.id
    assert len(first.id) == 16


def test_photos_named_by_view_are_one_set(tmp_path: Path, write: Write) -> None:
    for view in ("Front", "left", "BACK"):
        write(f"mugs/blue_{view}.png")
    write("mugs/red.png")
    write("mugs/lone_left.jpg")
    blue, lone, red = found(tmp_path)
    assert (blue.label, blue.kind) == ("mugs/blue", "photo_set")
    assert sorted(blue.payload["photos"]) == ["back", "front", "left"]
    assert (lone.label, lone.kind, list(lone.payload["photos"])) == ("mugs/lone_left", "photo", ["left"])
    assert (red.label, red.kind, list(red.payload["photos"])) == ("mugs/red", "photo", ["front"])


def test_a_second_photo_of_a_view_is_left_out(tmp_path: Path, write: Write) -> None:
    write("a_front.jpg")
    write("a_front.png")
    write("a_left.png")
    assert labels(tmp_path) == ["a"]
    assert ignored(tmp_path) == {"a_front.png": "further photo of one view"}


def test_a_folder_of_views_is_one_photo_set(tmp_path: Path, write: Write) -> None:
    for name in ("mug1/front.png", "mug1/LEFT.jpg", "mug1/back.png", "mugs/blue/right.png", "mugs/blue/front.png"):
        write(name)
    write("lone/left.png")
    lone, mug1, blue = found(tmp_path)
    assert (mug1.label, mug1.kind, mug1.class_name) == ("mug1", "photo_set", "object")
    assert sorted(mug1.payload["photos"]) == ["back", "front", "left"]
    assert (blue.label, blue.class_name, sorted(blue.payload["photos"])) == ("mugs/blue", "mugs", ["front", "right"])
    assert (lone.label, lone.kind, list(lone.payload["photos"])) == ("lone/left", "photo", ["left"])


def test_views_beside_each_other_in_the_folder_itself_are_named_after_it(tmp_path: Path, write: Write) -> None:
    write("front.png")
    write("left.png")
    (item,) = found(tmp_path)
    assert (item.label, item.group, item.class_name) == ("inbox", "inbox", "object")


def test_a_set_named_in_its_files_and_a_folder_of_views_of_that_name_are_two(tmp_path: Path, write: Write) -> None:
    for name in ("mug/front.png", "mug/left.png", "mug_front.png", "mug_back.png"):
        write(name)
    assert [sorted(item.payload["photos"]) for item in found(tmp_path)] == [["front", "left"], ["back", "front"]]


def test_an_objs_material_and_texture_belong_to_it_and_are_no_photos(tmp_path: Path, write: Write) -> None:
    write("boot.obj", "# a boot\nmtllib my boot.mtl\nv 0 0 0\n")
    write("my boot.mtl", "newmtl m\nmap_Kd tex\\skin.png\n")
    write("tex/skin.png")
    write("real.png")
    (boot, photo), before = found(tmp_path), found(tmp_path)[0].id
    assert (boot.label, photo.label) == ("boot", "real")
    assert sorted(boot.payload["side_files"]) == ["my boot.mtl", "tex\\skin.png"]
    assert not ignored(tmp_path)
    write("tex/skin.png", "repainted")
    assert found(tmp_path)[0].id != before


def test_images_of_an_orphan_material_are_no_photos(tmp_path: Path, write: Write) -> None:
    write("old.mtl", "newmtl m\nMAP_KD old.png\n")
    write("old.png")
    write("real.png")
    assert labels(tmp_path) == ["real"]


def test_a_gltfs_buffers_and_images_belong_to_it(tmp_path: Path, write: Write) -> None:
    embedded = {"uri": "data:image/png;base64,xx"}
    header = {"buffers": [{"uri": "a%20b.bin"}], "images": [{"uri": "t.png"}, embedded]}
    write("a.gltf", json.dumps(header))
    write("a b.bin")
    write("t.png")
    (item,) = found(tmp_path)
    assert sorted(item.payload["side_files"]) == ["a%20b.bin", "t.png"]
    loaded = load(item.payload, 10**6)
    assert loaded.mesh is not None
    assert loaded.mesh.side_files == {"a%20b.bin": b"a b.bin", "t.png": b"t.png"}


@pytest.mark.parametrize(
    "name", ["../secret.mtl", "/etc/passwd", "sub/../../secret.mtl", "file:///etc/passwd", "link.mtl"]
)
def test_a_reference_out_of_the_folder_is_that_items_problem(tmp_path: Path, write: Write, name: str) -> None:
    (tmp_path / "secret.mtl").write_text("newmtl secret")
    write("a.obj", f"mtllib {name}\n")
    (tmp_path / "inbox" / "link.mtl").symlink_to(tmp_path / "secret.mtl")
    (item,) = found(tmp_path)
    assert item.problem is not None
    assert "not inside the source's folder" in item.problem
    assert item.payload["side_files"] == {}


def test_a_broken_gltf_is_found_with_its_problem(tmp_path: Path, write: Write) -> None:
    write("a.gltf", "{")
    (item,) = found(tmp_path)
    assert item.problem is not None
    assert "not a readable gltf" in item.problem


def test_a_file_that_cannot_be_read_is_found_with_its_problem(tmp_path: Path, write: Write) -> None:
    write("good.glb")
    (tmp_path / "inbox" / "dangling.glb").symlink_to("nowhere")
    dangling, good = found(tmp_path)
    assert dangling.problem is not None
    assert "No such file" in dangling.problem
    assert good.problem is None


def test_hidden_files_loops_of_links_and_pipes_are_passed_by(tmp_path: Path, write: Write) -> None:
    write("sub/a.glb")
    write(".hidden.glb")
    write(".git/b.glb")
    (tmp_path / "inbox" / "sub" / "loop").symlink_to(tmp_path / "inbox")
    os.mkfifo(tmp_path / "inbox" / "pipe.glb")
    assert labels(tmp_path) == ["sub/a"]


def test_patterns_without_a_slash_match_names_and_others_paths(tmp_path: Path, write: Write) -> None:
    for name in ("shoes/gso_a.glb", "shoes/deep/gso_b.glb", "shoes/c.glb", "mugs/gso_d.ply"):
        write(name)
    assert labels(tmp_path, include=("gso_*",)) == ["mugs/gso_d", "shoes/deep/gso_b", "shoes/gso_a"]
    assert labels(tmp_path, include=("shoes/*",), exclude=("*/deep/*",)) == ["shoes/c", "shoes/gso_a"]
    write("e.glb")
    assert labels(tmp_path, recursive=False) == ["e"]


def test_class_comes_from_the_first_folder_or_the_params(tmp_path: Path, write: Write) -> None:
    write("a.glb")
    write("shoes/deep/b.glb")
    assert [item.class_name for item in found(tmp_path)] == ["object", "shoes"]
    assert {item.class_name for item in found(tmp_path, class_name="boot")} == {"boot"}


def groups(tmp_path: Path, **params: Any) -> dict[str, str | None]:
    return {f"{item.label} {item.kind}": item.group for item in found(tmp_path, **params)}


def test_one_object_in_several_files_is_one_group(tmp_path: Path, write: Write) -> None:
    for name in (
        "shoes/a.glb",
        "shoes/a.stl",
        "shoes/a_left.png",
        "shoes/a_back.png",
        "shoes/b.glb",
        "shoes/b_front.png",
    ):
        write(name)
    assert groups(tmp_path) == {
        "shoes/a mesh": "shoes/a",
        "shoes/a photo_set": "shoes/a",
        "shoes/b mesh": "shoes/b",
        "shoes/b_front photo": "shoes/b",
    }


def test_a_mesh_beside_its_folder_of_views_is_one_group_with_them(tmp_path: Path, write: Write) -> None:
    for name in ("mug/model.glb", "mug/model.stl", "mug/front.png", "mug/left.png"):
        write(name)
    assert set(groups(tmp_path).values()) == {"mug"}
    write("mug/other.glb")
    assert groups(tmp_path) == {
        "mug photo_set": "mug",
        "mug/model mesh": "mug/model",
        "mug/other mesh": "mug/other",
    }


def test_group_is_what_the_pattern_captures_in_the_label(tmp_path: Path, write: Write) -> None:
    write("shoes/a_1.glb")
    write("shoes/b.glb")
    assert [item.group for item in found(tmp_path, group=r"/([^/_]+)_\d")] == ["a", "shoes/b"]
    with pytest.raises(ValueError, match=r"exactly one \(group\), has 0"):
        Params(group="shoes")
    with pytest.raises(ValueError, match="not a regular expression"):
        Params(group="(")


def test_names_that_are_not_utf8_or_hold_control_characters_are_escaped(tmp_path: Path, write: Write) -> None:
    write("good.png")
    write("b[red]ad\n\x1b[2J.png")
    write(os.fsdecode(b"sub/caf\xe9.glb"), "x")
    (tmp_path / "inbox" / os.fsdecode(b"dangl\xff.glb")).symlink_to("nowhere")
    assert labels(tmp_path) == [r"b[red]ad\n\x1b[2J", r"dangl\xff", "good", r"sub/caf\xe9"]
    latin = found(tmp_path)[-1]
    assert load(json.loads(json.dumps(latin.payload)), 10**6).mesh == MeshFile(b"x", "glb")
    for item in found(tmp_path):
        text = f"{item.label}{item.class_name}{item.group}{item.inputs}{item.problem}"
        assert text.encode().decode().isprintable()


def test_the_manifest_is_used_where_the_params_are_silent(tmp_path: Path, write: Write) -> None:
    entries = [
        {"file": "a.glb", "licence": "CC0-1.0", "up": "Z", "class": "shoe", "what": "a clog", "sha256": "..."},
        {"file": "b.glb", "up": "X", "split": "test"},
    ]
    write("manifest.json", json.dumps(entries))
    write("a.glb")
    write("b.glb")
    write("c.glb")
    a, b, c = found(tmp_path)
    assert (a.licence, a.up_axis, a.class_name, a.labels) == ("CC0-1.0", "z", "shoe", {"what": "a clog"})
    assert (b.up_axis, b.licence, c.up_axis) == ("x", "unstated", None)
    assert [item.split for item in (a, b, c)] == [None, "test", None]
    a, b, c = found(tmp_path, up_axis="z", up={"b*": "y"}, licence="mine", class_name="mug")
    assert [item.up_axis for item in (a, b, c)] == ["z", "y", "z"]
    assert (a.licence, a.class_name) == ("mine", "mug")
    assert not ignored(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"name": "an app"}', '[{"up": "Z"}]', '[{"file": "a.glb", "up": "north"}]'])
def test_a_manifest_of_another_kind_is_named(tmp_path: Path, write: Write, text: str) -> None:
    write("manifest.json", text)
    with pytest.raises(ValueError, match=r"manifest\.json is not a list of .*mend it, or rename it"):
        listing(tmp_path)


def test_listing_opens_no_mesh_and_no_photo(tmp_path: Path, write: Write) -> None:
    write("a.glb")
    write("b.png")
    digested = []

    def digest(path: Path) -> str:
        digested.append(path.name)
        return "0" * 64

    assert len(list(find(Params(), tmp_path / "inbox", digest))) == 2
    assert digested == ["a.glb", "b.png"]


def test_loading_checks_size_and_digest(tmp_path: Path, write: Write) -> None:
    path = write("a.glb", "0123456789")
    (item,) = found(tmp_path)
    assert load(item.payload, 10).mesh.data == b"0123456789"  # type: ignore[union-attr]
    with pytest.raises(BadInput, match=r"a\.glb has .* MB, the limit is"):
        load(item.payload, 9)
    path.write_text("9876543210")
    with pytest.raises(BadInput, match="changed while it was being ingested; run again"):
        load(item.payload, 10)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:abab\nsize 1\n")
    (item,) = found(tmp_path)
    with pytest.raises(BadInput, match=r"a\.glb is a Git LFS pointer, not the file: run `git lfs pull`"):
        load(item.payload, 1000)
    path.unlink()
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        load(item.payload, 10)

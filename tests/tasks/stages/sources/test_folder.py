import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.errors import BadInput
from tasks.collections.files import file_sha256
from tasks.stages.sources import Found, Ignored
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
    return {entry.path: entry.reason for entry in listing(tmp_path, **params) if isinstance(entry, Ignored)}


def labels(tmp_path: Path, **params: Any) -> list[str]:
    return [item.label for item in found(tmp_path, **params)]


def test_meshes_and_photos_are_found_in_order_whatever_the_case_of_their_suffix(tmp_path: Path, write: Write) -> None:
    items = ("b.GLB", "a.Ply", "c.off", "d.STL", "e.JPG", "f.jpeg", "g.WebP", "h.png", "sub/i.Obj")
    for name in (*items, "j.glb.txt", "k"):
        write(name)
    assert labels(tmp_path) == ["a", "b", "c", "d", "e", "f", "g", "h", "sub/i"]
    assert ignored(tmp_path) == {"j.glb.txt": "not a mesh or photo: .txt", "k": "no suffix"}


def test_an_absent_inbox_holds_nothing_but_an_absent_path_is_a_mistake(tmp_path: Path) -> None:
    assert listing(tmp_path) == []
    with pytest.raises(ValueError, match=r"no folder at .*nowhere"):
        listing(tmp_path, path="nowhere")


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
    assert ignored(tmp_path) == {"a_front.png": "a second photo of the same view"}


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
    assert labels(tmp_path) == []


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
    assert labels(tmp_path, recursive=False) == []


def test_class_comes_from_the_first_folder_or_the_params(tmp_path: Path, write: Write) -> None:
    write("a.glb")
    write("shoes/deep/b.glb")
    assert [item.class_name for item in found(tmp_path)] == ["object", "shoes"]
    assert {item.class_name for item in found(tmp_path, class_name="boot")} == {"boot"}


def test_group_is_what_the_pattern_captures_in_the_label(tmp_path: Path, write: Write) -> None:
    write("shoes/a_1.glb")
    write("shoes/b.glb")
    assert [item.group for item in found(tmp_path, group=r"/([^/_]+)_\d")] == ["a", None]
    with pytest.raises(ValueError, match=r"exactly one \(group\), has 0"):
        Params(group="shoes")
    with pytest.raises(ValueError, match="not a regular expression"):
        Params(group="(")


def test_the_manifest_is_used_where_the_params_are_silent(tmp_path: Path, write: Write) -> None:
    entries = [
        {"file": "a.glb", "licence": "CC0-1.0", "up": "Z", "class": "shoe", "what": "a clog", "sha256": "..."},
        {"file": "b.glb", "up": "X"},
    ]
    write("manifest.json", json.dumps(entries))
    write("a.glb")
    write("b.glb")
    write("c.glb")
    a, b, c = found(tmp_path)
    assert (a.licence, a.up_axis, a.class_name, a.labels) == ("CC0-1.0", "z", "shoe", {"what": "a clog"})
    assert (b.up_axis, b.licence, c.up_axis) == ("x", "unstated", "y")
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
    path.unlink()
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        load(item.payload, 10)

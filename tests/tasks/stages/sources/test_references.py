import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from models.errors import BadInput
from models.normalise import normalise
from tasks.collections.files import file_sha256
from tasks.stages.sources import Found
from tasks.stages.sources import _references as references
from tasks.stages.sources._references import ReferredFiles, SideFiles
from tasks.stages.sources.folder import Params, find, load

CASES = Path(__file__).parents[4].parent / "shared" / "cases"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("a/b.obj", "text") lays a file in the folder."""

    def write(name: str, content: str | bytes = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def of(tmp_path: Path, name: str) -> ReferredFiles:
    return SideFiles(tmp_path).of(tmp_path / name)


def names(tmp_path: Path, found: ReferredFiles) -> dict[str, str]:
    """Side files by the name that refers to them, relative to the folder."""
    return {name: str(path.relative_to(tmp_path)) for name, path in found.files.items()}


def items(inbox: Path) -> list[Found]:
    return [entry for entry in find(Params(), inbox, file_sha256) if isinstance(entry, Found)]


def glb(header: dict[str, object]) -> bytes:
    text = json.dumps({"asset": {"version": "2.0"}} | header).encode()
    text += b" " * (-len(text) % 4)
    return b"glTF" + struct.pack("<IIII", 2, 20 + len(text), len(text), 0x4E4F534A) + text


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")
def test_the_cases_are_seven_meshes_with_texture_and_no_photo() -> None:
    found = items(CASES / "11_obj_texture_paths" / "inbox")
    assert [item.kind for item in found] == ["mesh"] * 7
    for item in found:
        mesh_file = load(item.payload, 10**6).mesh
        assert mesh_file is not None
        result = normalise(mesh_file)
        assert (item.problem, result.colour, result.left_out) == (None, "texture", ())


@pytest.mark.parametrize(
    ("stated", "lies_at"),
    [
        ("t.png", "t.png"),
        ("T.PNG", "t.png"),
        ("Maps\\Skin.JPG", "maps/skin.jpg"),
        ('"left side.png"', "left side.png"),
        ("left side.png", "left side.png"),
        ("-s 1 1 1 -bm 2 left side.png", "left side.png"),
        ("C:\\Users\\ann\\Desktop\\T.png", "t.png"),
        ("/home/ann/scan/t.png", "t.png"),
        ("\\\\server\\share\\t.png", "t.png"),
        ("https://example.org/t.png", "t.png"),
    ],
)
def test_a_texture_is_found_however_a_library_writes_its_name(
    tmp_path: Path, write: Write, stated: str, lies_at: str
) -> None:
    write("a.obj", "mtllib a.mtl\n")
    write("a.mtl", f"newmtl m\nmap_Kd {stated}\n")
    write(lies_at)
    found = of(tmp_path, "a.obj")
    assert names(tmp_path, found) == {"a.mtl": "a.mtl", stated: lies_at}
    assert found.pictures == {tmp_path / lies_at}


def test_a_name_that_fits_exactly_comes_before_one_in_other_letters(tmp_path: Path, write: Write) -> None:
    write("a.obj", "mtllib a.mtl\n")
    write("a.mtl", "newmtl m\nmap_Kd t.png\n")
    write("T.png")
    assert names(tmp_path, of(tmp_path, "a.obj"))["t.png"] == "T.png"
    write("t.png")
    assert names(tmp_path, of(tmp_path, "a.obj"))["t.png"] == "t.png"


def test_libraries_may_be_several_and_have_spaces_or_quotes(tmp_path: Path, write: Write) -> None:
    write("a.obj", 'mtllib none.mtl\n  mtllib my boot.mtl\nmtllib b.mtl c.mtl\nmtllib "d.mtl"\n# mtllib e.mtl\n')
    for name in ("my boot.mtl", "b.mtl", "c.mtl", "d.mtl", "e.mtl"):
        write(name, "newmtl m\n")
    assert list(of(tmp_path, "a.obj").files) == ["my boot.mtl", "b.mtl", "c.mtl", '"d.mtl"']


def test_a_library_late_in_the_file_is_found_and_without_any_library_about_nobody_looks(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = "# " + "x" * references.HEAD_BYTES + "\nv 0 0 0 mtllib no.mtl\n\tmtllib late.mtl\nmtllib later.mtl"
    write("a/a.obj", late)
    for name in ("no", "late", "later"):
        write(f"a/{name}.mtl", "newmtl m\n")
    assert list(of(tmp_path, "a/a.obj").files) == ["late.mtl", "later.mtl"]
    write("b/b.obj", late)
    monkeypatch.setattr(references.mmap, "mmap", lambda *_, **__: pytest.fail("the whole file is read"))
    assert of(tmp_path, "b/b.obj").files == {}


def test_a_library_in_latin_1_finds_its_texture(tmp_path: Path, write: Write) -> None:
    write("a.obj", "mtllib a.mtl\n")
    write("a.mtl", "newmtl m\nmap_Kd höhe.png\n".encode("latin-1"))
    write("höhe.png")
    assert "höhe.png" in of(tmp_path, "a.obj").files


def test_pictures_that_a_mesh_refers_to_are_no_photos_even_where_they_are_not_read(
    tmp_path: Path, write: Write
) -> None:
    write("a.obj", "mtllib a.mtl\n")
    write("a.mtl", "newmtl m\nmap_Kd skin.png\nmap_Bump -bm 1 bumps.png\nmap_d C:\\x\\mask.png\nnorm ../outside.png\n")
    for name in ("skin.png", "bumps.png", "mask.png", "photo.png"):
        write(name)
    assert [(item.kind, item.label) for item in items(tmp_path)] == [("mesh", "a"), ("photo", "photo")]
    assert sorted(items(tmp_path)[0].payload["side_files"]) == ["a.mtl", "skin.png"]


def test_pictures_of_a_refused_mesh_are_no_photos_either(tmp_path: Path, write: Write) -> None:
    write("a.gltf", json.dumps({"images": [{"uri": "t.png"}], "buffers": [{"uri": "../a.bin"}]}))
    write("t.png")
    (item,) = items(tmp_path)
    assert item.problem is not None
    assert "'../a.bin', which is not inside the source's folder" in item.problem
    assert item.payload["side_files"] == {}


def test_a_glb_and_a_ply_may_refer_to_pictures_beside_them(tmp_path: Path, write: Write) -> None:
    write("a.glb", glb({"images": [{"uri": "My%20Skin.png"}, {"uri": "data:,x"}], "buffers": [{"uri": "a.bin"}]}))
    write("b.ply", "ply\nformat ascii 1.0\ncomment TextureFile b Skin.PNG\nelement vertex 0\nend_header\n")
    for name in ("my skin.png", "b skin.png", "a.bin"):
        write(name)
    first, second = items(tmp_path)
    assert sorted(first.payload["side_files"]) == ["My%20Skin.png", "a.bin"]
    assert sorted(second.payload["side_files"]) == ["b Skin.PNG"]
    before = first.id
    write("my skin.png", "repainted")
    assert items(tmp_path)[0].id != before


def test_glbs_are_not_opened_where_nothing_lies_about(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.glb", glb({"images": [{"uri": "t.png"}]}))
    write("a.txt")
    monkeypatch.setattr(references, "_glb_header", lambda _: pytest.fail("opened"))
    assert [item.label for item in items(tmp_path)] == ["a"]


@pytest.mark.parametrize("content", [b"", b"glTF", b"glTF" + bytes(40), b"hello world, this is no glb", glb({})[:-8]])
def test_a_glb_that_is_none_is_left_to_the_reader(tmp_path: Path, write: Write, content: bytes) -> None:
    write("a.glb", content)
    found = of(tmp_path, "a.glb")
    assert (found.files, found.problem) == ({}, None)


def test_a_missing_texture_is_no_problem_and_a_missing_buffer_is_named(tmp_path: Path, write: Write) -> None:
    write("a.obj", "mtllib a.mtl\n")
    write("a.mtl", "newmtl m\nmap_Kd C:\\gone.png\n")
    assert of(tmp_path, "a.obj").problem is None
    view = {"buffer": 0, "byteLength": 36}
    header = {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": "gone.bin", "byteLength": 36}],
        "bufferViews": [view],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "nodes": [{"mesh": 0}],
    }
    write("b.gltf", json.dumps(header))
    mesh_file = load(items(tmp_path)[1].payload, 10**6).mesh
    assert mesh_file is not None
    with pytest.raises(BadInput, match=r"the mesh refers to 'gone\.bin', which is not there: lay it beside"):
        normalise(mesh_file)


@pytest.mark.parametrize("name", ["a.gltf", "a.mtl"])
def test_files_that_were_never_fetched_are_named(tmp_path: Path, write: Write, name: str) -> None:
    write("a.obj", "mtllib a.mtl\n")
    write(name, "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n")
    problems = [item.problem for item in items(tmp_path) if item.problem]
    assert len(problems) == 1
    assert f"{name} is a Git LFS pointer" in problems[0]

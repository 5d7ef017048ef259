import struct

import numpy as np
import pytest
import trimesh

from models.errors import BadInput
from models.meshfiles import Limits, MeshFile, read
from models.normalise import normalise
from tests.models.meshfiles.scenes import CASES, case, colours, extents, image, whole

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 60, 220), (255, 255, 255)
QUADRANTS = image([RED, GREEN], [WHITE, BLUE])
L_CORNERS = [(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)]

needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")


def ply(header: str, body: str | bytes, **side_files: bytes) -> MeshFile:
    data = body if isinstance(body, bytes) else body.encode()
    files = {name.replace("__", "."): file for name, file in side_files.items()}
    return MeshFile(f"ply\n{header}\nend_header\n".encode() + data, "ply", files)


@needs_cases
@pytest.mark.parametrize("name", ["be", "extra_bytes", "tristrips", "vertex_index"])
def test_cases_of_ply_are_the_box_that_they_hold(name: str) -> None:
    assert extents(case(f"15_ply_kinds/inbox/{name}.ply")) == [1, 0.6, 0.4]
    assert whole(case(f"15_ply_kinds/inbox/{name}.ply")).volume == pytest.approx(0.24)


@needs_cases
def test_cases_of_ply_without_a_mesh_say_what_they_hold() -> None:
    with pytest.raises(BadInput, match="it holds 50 3D Gaussian splats, not a mesh"):
        normalise(case("15_ply_kinds/inbox/splat.ply"))
    with pytest.raises(BadInput, match="points only, no triangles"):
        normalise(case("15_ply_kinds/inbox/cloud.ply"))


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_polygons_of_different_sizes_in_either_byte_order_and_as_text(order: str) -> None:
    polygons = [[0, 1, 2, 3, 4, 5], [0, 2, 1], [3, 4, 5, 0]]
    kind = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    header = (
        f"format {kind} 1.0\nelement vertex 6\nproperty double x\nproperty short y\nproperty float z\n"
        "element face 3\nproperty uchar flags\nproperty list uchar int vertex_indices"
    )
    if order:
        body = b"".join(struct.pack(f"{order}dhf", x, y, 0) for x, y in L_CORNERS)
        body += b"".join(struct.pack(f"{order}BB{len(p)}i", 7, len(p), *p) for p in polygons)
    else:
        rows = [f"{x} {y} 0" for x, y in L_CORNERS] + [f"7 {len(p)} {' '.join(map(str, p))}" for p in polygons]
        body = "\n".join(rows).encode()
    mesh = whole(ply(header, body))
    assert len(mesh.faces) == 4 + 1 + 2
    assert mesh.area_faces[:4].sum() == pytest.approx(5), "the L is hollow at its fourth corner"


def test_a_strip_ends_at_minus_one() -> None:
    header = "format ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element tristrips 1\nproperty list int int vertex_indices"
    mesh = whole(ply(header, "0 0 0\n1 0 0\n0 1 0\n1 1 0\n8 0 1 2 3 -1 3 1 0\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [1, 3, 2], [3, 1, 0]]


FACES = "property list uchar int vertex_indices"
SQUARE = "format ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"


def test_a_texture_by_vertices_or_by_faces_is_drawn() -> None:
    by_vertex = SQUARE.replace("ascii 1.0", "ascii 1.0\ncomment TextureFile my skin.png")
    by_vertex += "property float s\nproperty float t\nelement face 1\nproperty list uchar int vertex_index"
    rows = "0 0 0 .25 .75\n1 0 0 .75 .75\n1 1 0 .75 .25\n0 1 0 .25 .25\n4 0 1 2 3\n"
    expected = sorted([list(RED), list(GREEN), list(BLUE), list(WHITE)])
    mesh_file = MeshFile(ply(by_vertex, rows).data, "ply", {"my skin.png": QUADRANTS})
    assert sorted(colours(mesh_file)) == expected
    lost = normalise(MeshFile(mesh_file.data, "ply"))
    assert (lost.colour, lost.left_out) == ("none", ("the texture 'my skin.png' is not there",))
    by_face = SQUARE.replace("ascii 1.0", "ascii 1.0\ncomment TextureFile a.png\ncomment TextureFile b.png")
    by_face += f"element face 2\n{FACES}\nproperty list uchar float texcoord\nproperty int texnumber"
    rows = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2 6 .25 .75 .75 .75 .75 .25 0\n3 0 2 3 6 .5 .5 .5 .5 .5 .5 1\n"
    first, second = read(ply(by_face, rows, a__png=QUADRANTS, b__png=image([WHITE]))).parts()
    assert sorted(np.asarray(first.vertex_colours())[:, :3].tolist()) == sorted([list(RED), list(GREEN), list(BLUE)])
    assert np.unique(second.vertex_colours()).tolist() == [255]


@pytest.mark.parametrize(
    ("kind", "names", "values"),
    [
        ("uchar", "red green blue", "255 51 0"),
        ("float", "red green blue", "1 .2 0"),
        ("ushort", "r g b", "65535 13107 0"),
        ("uchar", "diffuse_red diffuse_green diffuse_blue", "255 51 0"),
    ],
)
def test_colours_of_vertices_and_of_faces_are_srgb(kind: str, names: str, values: str) -> None:
    properties = "".join(f"property {kind} {name}\n" for name in names.split())
    face = f"element face 1\n{FACES}"
    corners = ["0 0 0", "1 0 0", "1 1 0", "0 1 0"]
    of_vertices = ply(SQUARE + properties + face, "".join(f"{row} {values}\n" for row in corners) + "4 0 1 2 3\n")
    of_faces = ply(SQUARE + f"{face}\n{properties}".strip(), "\n".join(corners) + f"\n4 0 1 2 3 {values}\n")
    assert np.unique(colours(of_vertices), axis=0).tolist() == [[255, 51, 0]]
    assert np.unique(colours(of_faces), axis=0).tolist() == [[255, 51, 0]]


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        ("format ascii 1.0\nelement vertex x", "", "its header says 'element vertex x'"),
        ("format middle_endian 1.0", "", "its header says 'format middle_endian 1.0'"),
        ("format ascii 1.0\nproperty float x", "", "its header says 'property float x'"),
        ("format ascii 1.0\nelement face 0", "", r"it has no element 'vertex', only \['face'\]"),
        (SQUARE.replace("property float z\n", "").strip(), "0 0 " * 4, "its vertices have no 'z'"),
        (SQUARE.strip(), "0 0 0\n1 0 0\n", "its header says 4 rows of 'vertex', there are 2"),
        (
            f"{SQUARE}element face 1\n{FACES}",
            "0 " * 12 + "3 0 1",
            "1 rows of 'face', there are fewer",
        ),
        (
            f"{SQUARE}element face 1\n{FACES}",
            "0 " * 12 + "3 0 1 9",
            "vertex 9, there are 4",
        ),
        (f"{SQUARE}element face 0\n{FACES}", "0 " * 12, "points only"),
        ("format ascii 1.0\nelement vertex 99999999", "", "a list of 99999999 elements"),
    ],
)
def test_a_broken_ply_is_refused(header: str, body: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(ply(header, body), Limits())


# --- STL


@needs_cases
@pytest.mark.parametrize("name", ["ascii_crlf", "ascii_noend", "count_zero", "solid_header", "trailing"])
def test_cases_of_stl_are_the_box_that_they_hold(name: str) -> None:
    assert extents(case(f"14_stl_headers/inbox/{name}.stl")) == [1, 0.6, 0.4]
    assert normalise(case(f"14_stl_headers/inbox/{name}.stl")).watertight


@needs_cases
def test_the_case_of_a_wrong_count_says_so() -> None:
    with pytest.raises(BadInput, match="its header says 13 triangles, there are 12"):
        normalise(case("14_stl_headers/inbox/count_off.stl"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-30], "its header says 12 triangles, there are 11 and a piece"),
        (lambda data: data[:-100], "its header says 12 triangles, there are 10:"),
        (lambda data: data[:80] + struct.pack("<I", 5) + data[84:], "its header says 5 triangles, there are 12"),
        (lambda data: data[:50], "50 bytes, its header alone has 84"),
        (lambda data: data[:80] + bytes(4), "it holds no geometry"),
    ],
)
def test_a_broken_binary_stl_says_what_is_wrong(damage, message) -> None:
    box = trimesh.creation.box().export(file_type="stl")
    with pytest.raises(BadInput, match=message):
        read(MeshFile(damage(b"\1" + box[1:]), "stl"))


def test_a_text_stl_holds_all_its_solids_and_ends_where_it_should() -> None:
    facet = "facet normal 0 0 1\nouter loop\nvertex {0} 0 0\nVERTEX {0}.5 0 0\nvertex {0} 1e0 0\nendloop\nendfacet\n"
    text = f"solid a\n{facet.format(0)}endsolid a\nsolid b\n{facet.format(3)}endsolid\n"
    assert extents(MeshFile(text.encode(), "stl")) == [3.5, 1, 0]
    with pytest.raises(BadInput, match="it ends with 'vertex 3 1e0 0', not with `endsolid`"):
        read(MeshFile(text[: text.rindex("\nendloop")].encode(), "stl"))
    with pytest.raises(BadInput, match="it has 5 lines `vertex x y z`"):
        read(MeshFile(text[: text.rindex("vertex")].encode(), "stl"))


# --- OFF


def test_an_off_has_its_polygons_and_colours() -> None:
    corners = "".join(f"{x} {y} 0 255 51 0 255\n" for x, y in L_CORNERS)
    mesh_file = MeshFile(f"COFF # a comment\n\n6 2 0\n{corners}6 0 1 2 3 4 5 0.5 0.5 0.5\n3 0 1 2\n".encode(), "off")
    assert whole(mesh_file).area_faces[:4].sum() == pytest.approx(5)
    assert colours(mesh_file) == [[255, 51, 0]] * 6
    assert len(whole(MeshFile(b"OFF 3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "off")).faces) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PLY", "it does not start with OFF"),
        ("OFF BINARY\n", "a binary or four-dimensional OFF"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n", "3 . 1 lines are said, 2 are there"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1\n", "a face has fewer corners than it says"),
        ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 3\n", "refers to vertex 3, there are 3"),
        ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "points only, no triangles"),
        ("OFF\n", "not a readable off mesh"),
    ],
)
def test_a_broken_off_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(MeshFile(text.encode(), "off"))


# --- what is no mesh of any type


def test_an_unknown_type_is_answered_with_those_that_are_read() -> None:
    with pytest.raises(BadInput, match="meshes of type 'fbx' are not read; there are: glb, gltf, obj, off, ply, stl"):
        read(MeshFile(b"x", "fbx"))


@pytest.mark.parametrize("kind", ["glb", "gltf", "obj", "off", "ply", "stl"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"PK\x03\x04aaaa", "a zip archive: unpack it"),
        (b"Kaydara FBX Binary", "an FBX file: export it as glb"),
        (bytes(2000), "nothing but zero bytes"),
    ],
)
def test_other_things_under_the_name_of_a_mesh_are_called_what_they_are(kind: str, data: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(MeshFile(data, kind))

import numpy as np
import pytest

from models.errors import BadInput
from models.meshfiles import Limits, MeshFile, read
from models.meshfiles.mtl import possible_paths, read_mtl, texture_statement
from models.normalise import normalise
from tests.models.meshfiles.scenes import CASES, case, colours, image, whole

SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
CORNERS = "vt 0.25 0.75\nvt 0.75 0.75\nvt 0.75 0.25\nvt 0.25 0.25\n"
"""Of the four pixels of QUADRANTS: upper left, upper right, lower right, lower left; v grows upward."""
RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 60, 220), (255, 255, 255)
QUADRANTS = image([RED, GREEN], [WHITE, BLUE])
SEEN = [list(colour) for colour in (RED, GREEN, BLUE, WHITE)]


def obj(text: str, **side_files: str | bytes) -> MeshFile:
    files = {
        name.replace("__", "."): data.encode() if isinstance(data, str) else data for name, data in side_files.items()
    }
    return MeshFile(text.encode(), "obj", files)


def textured(statement: str = "t.png", *, kd: str = "", uvs: str = CORNERS) -> MeshFile:
    text = f"mtllib a.mtl\nusemtl m\n{SQUARE}{uvs}f 1/1 2/2 3/3 4/4\n"
    return MeshFile(
        text.encode(), "obj", {"a.mtl": f"newmtl m\n{kd}\nmap_Kd {statement}\n".encode(), statement: QUADRANTS}
    )


@pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")
def test_the_l_shaped_prism_has_its_area() -> None:
    result = normalise(case("10_concave_ngon/inbox/a.obj"))
    assert (result.num_triangles, result.watertight) == (20, True)
    assert whole(case("10_concave_ngon/inbox/a.obj")).area == pytest.approx(22)
    assert whole(case("10_concave_ngon/inbox/a.obj")).volume == pytest.approx(5)


@pytest.mark.parametrize(
    "faces",
    [
        "f 1 2 3\nf 1 3 4\n",
        "f 1 2 3 4\n",
        "f 1/1 2/2 3/3 4/4\n",
        "f 1//1 2//1 3//1\nf 1/1/1 3/3/1 4/4/1\n",
        "f 1/ 2/ 3/ 4/\n",
        "f -4 -3 -2 -1\n",
        "f 1/-4 2/-3 3/-2 4/-1 # a comment\n",
        "f 1 2 \\\n3 4\n",
        "  f\t1 2 3 4\r\n",
        "g a\ns off\nf 1 2 3\no b\nf 1 3 4\n",
    ],
)
def test_faces_may_be_written_in_any_way(faces: str) -> None:
    mesh = whole(obj(SQUARE + CORNERS + "vn 0 0 1\n" + faces))
    assert mesh.area == pytest.approx(1)
    assert mesh.face_normals.tolist() == [[0, 0, 1]] * 2


def test_relative_indices_count_from_the_line_and_not_from_the_end() -> None:
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 0 0 5\nv 1 0 5\nv 0 1 5\nf -3 -2 -1\n"
    first, second = whole(obj(text)).triangles
    assert first[:, 2].tolist() == [0, 0, 0]
    assert second[:, 2].tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("f 1 2 3\n", "its faces refer to vertices, and it has none"),
        (SQUARE + "f 1 2 9\n", "a face refers to vertex 9, there are 4"),
        (SQUARE + "f 0 1 2\n", "a face refers to vertex 0, there are 4"),
        (SQUARE + "f -9 1 2\n", "a face refers to vertex -9, there are 4"),
        (SQUARE + CORNERS + "f 1/1 2/2 3/7\n", "a face refers to texture coordinate 7, there are 4"),
        (SQUARE + "f a b c\n", r"a face is not understood \(`f a b c`"),
        (SQUARE + "f 1 2\n", "fewer than three corners"),
        (SQUARE + "l 1 2\n", "lines only, no triangles"),
        ("v 0 0 x\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "a line `v ...` holds no numbers"),
        ("", "the file is empty"),
        ("nothing", "it holds no geometry"),
    ],
)
def test_what_cannot_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(obj(text))


def test_the_triangles_of_polygons_count_against_the_limit() -> None:
    with pytest.raises(BadInput, match="2 triangles are over the limit of 1"):
        read(obj(SQUARE + "f 1 2 3 4\n"), Limits(max_triangles=1))


def test_vertex_colours_are_srgb_up_to_1_or_255() -> None:
    for scale in (1, 255):
        text = "".join(f"v {x} {y} 0 {scale} {0.2 * scale:g} 0\n" for x, y in ((0, 0), (1, 0), (0, 1)))
        assert colours(obj(text + "f 1 2 3\n")) == [[255, 51, 0]] * 3


def test_each_material_is_a_part_with_its_colour_or_its_texture() -> None:
    text = f"mtllib a.mtl\n{SQUARE}{CORNERS}usemtl red\nf 1 2 3\nusemtl paper\nf 1/1 3/3 4/4\nusemtl red\nf 2 3 4\n"
    library = "newmtl paper\nKd 1 1 1\nmap_Kd t.png\nnewmtl red\nKd 1 0 0\nmap_Kd\nd 0.498\n"
    red, paper = read(obj(text, a__mtl=library, t__png=QUADRANTS)).parts()
    assert (len(red.faces_F3), len(paper.faces_F3)) == (2, 1)
    assert np.unique(red.vertex_colours(), axis=0).tolist() == [[255, 0, 0, 255]], "opaque, whatever d says"
    assert sorted(np.asarray(paper.vertex_colours())[:, :3].tolist()) == sorted([SEEN[0], SEEN[2], SEEN[3]])


def test_vertex_colours_say_more_than_the_colour_of_a_material() -> None:
    corners = "".join(f"v {x} {y} 0 1 0.2 0\n" for x, y in ((0, 0), (1, 0), (0, 1)))
    mesh_file = obj(f"mtllib a.mtl\nusemtl m\n{corners}f 1 2 3\n", a__mtl="newmtl m\nKd 0.5 0.5 0.5\n")
    assert colours(mesh_file) == [[255, 51, 0]] * 3


def test_of_several_libraries_each_gives_its_materials() -> None:
    text = f"mtllib none.mtl\nmtllib a.mtl b.mtl\n{SQUARE}usemtl a\nf 1 2 3\nusemtl b\nf 1 3 4\n"
    files = {"a__mtl": "newmtl a\nKd 1 0 0\n", "b__mtl": "newmtl b\nKd 0 0 1\nnewmtl a\nKd 0 1 0\n"}
    assert colours(obj(text, **files)) == [[255, 0, 0]] * 3 + [[0, 0, 255]] * 3
    assert normalise(obj(text, **files)).left_out == ()
    assert normalise(obj(text, a__mtl=files["a__mtl"])).left_out == ("the material library 'none.mtl' is not there",)


def test_a_texture_is_drawn_in_its_own_colours_under_every_kd_that_exporters_leave() -> None:
    assert colours(textured()) == SEEN
    assert colours(textured(kd="Kd 0 0 0")) == SEEN
    assert colours(textured(kd="Kd 1.0 1.0 1.0")) == SEEN
    assert colours(textured(kd="Kd 0.5 0.5 0.5"))[3] == [188, 188, 188]


def test_scale_and_offset_of_a_texture_move_its_coordinates() -> None:
    corners = ((0.25, 0.75), (0.75, 0.75), (0.75, 0.25), (0.25, 0.25))
    uvs = "".join(f"vt {(u - 0.5) / 2:g} {(v + 1) / 4:g}\n" for u, v in corners)
    assert colours(textured("-o 0.5 -1 0 -s 2 4 1 t.png", uvs=uvs)) == SEEN


def test_a_lost_texture_is_no_texture_and_said() -> None:
    lost = normalise(MeshFile(textured().data, "obj", {"a.mtl": b"newmtl m\nKd .5 .5 .5\nmap_Kd gone.png\n"}))
    assert (lost.colour, lost.left_out) == ("material", ("the texture 'gone.png' is not there",))
    files = {"a__mtl": "newmtl m\nmap_Kd t.png", "t__png": QUADRANTS}
    unwrapped = normalise(obj(f"mtllib a.mtl\nusemtl m\n{SQUARE}f 1 2 3\n", **files))
    assert (unwrapped.colour, len(unwrapped.left_out)) == ("none", 1)
    unknown = normalise(obj(f"usemtl fur\n{SQUARE}f 1 2 3\n"))
    assert (unknown.colour, unknown.left_out) == ("none", ("the material 'fur' is not there",))


def test_a_texture_that_was_never_fetched_is_named() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"
    files = dict(textured().side_files) | {"t.png": pointer}
    with pytest.raises(BadInput, match=r"a texture is not readable.*git lfs pull"):
        normalise(MeshFile(textured().data, "obj", files))


def test_a_16_bit_grey_texture_does_not_turn_white() -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.array([[0x2000, 0x4000], [0x8000, 0xFFFF]], np.uint16)).save(buffer, format="PNG")
    files = dict(textured().side_files) | {"t.png": buffer.getvalue()}
    greys = [row[0] for row in colours(MeshFile(textured().data, "obj", files))]
    assert greys == pytest.approx([32, 64, 255, 128], abs=1)


# --- names in libraries


@pytest.mark.parametrize(
    ("stated", "name", "scale", "offset", "clamp"),
    [
        ("t.png", "t.png", (1, 1), (0, 0), False),
        ("left side.png", "left side.png", (1, 1), (0, 0), False),
        ('"my skin.png"', "my skin.png", (1, 1), (0, 0), False),
        ("-s 1 1 1 -o 0 0 0 tex.png", "tex.png", (1, 1), (0, 0), False),
        ("-s 2 tex 1.png", "tex 1.png", (2, 1), (0, 0), False),
        ("-o .5 -1e-1 -bm 0.2 -clamp on -mm 0 1 -imfchan r t.png", "t.png", (1, 1), (0.5, -0.1), True),
        ("-O 1 2 3 C:\\a b\\t.png", "C:\\a b\\t.png", (1, 1), (1, 2), False),
    ],
)
def test_options_and_quotes_before_a_texture_are_taken_apart(
    stated: str, name: str, scale: tuple[float, float], offset: tuple[float, float], clamp: bool
) -> None:
    found = texture_statement(stated)
    assert (found.name, found.scale, found.offset, found.clamp) == (name, scale, offset, clamp)
    assert found.stated == stated


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("t.png", ["t.png"]),
        ("maps\\t.png", ["maps/t.png"]),
        ('"t.png"', ['"t.png"', "t.png"]),
        ("C:\\scan\\My Boot.PNG", ["My Boot.PNG"]),
        ("\\\\server\\share\\t.png", ["t.png"]),
        ("/home/ann/t.png", ["t.png"]),
        ("file:///home/ann/t.png", ["t.png"]),
    ],
)
def test_names_of_other_machines_become_paths_here(name: str, paths: list[str]) -> None:
    assert list(possible_paths(name)) == paths


def test_a_library_is_read_in_either_encoding_and_names_every_picture() -> None:
    for encoding in ("utf-8-sig", "latin-1"):
        library = read_mtl("newmtl café\nKd 0.5\nmap_Kd höhe.png\nmap_Bump -bm 1 b.png\nnorm n.png\n".encode(encoding))
        material = library["café"]
        assert material.diffuse == (0.5, 0.5, 0.5)
        assert material.texture is not None
        assert material.texture.name == "höhe.png"
        assert [other.name for other in material.other_textures] == ["b.png", "n.png"]

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
import trimesh

from models.errors import BadInput
from models.normalise import Limits, MeshFile, UpAxis, normalise

TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"


def box_file(file_type: str = "glb", extents: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> MeshFile:
    data = trimesh.creation.box(extents).export(file_type=file_type)
    return MeshFile(data if isinstance(data, bytes) else data.encode(), file_type)


def obj(text: str, **side_files: bytes) -> MeshFile:
    return MeshFile(text.encode(), "obj", side_files)


def glb_of(header: dict[str, Any]) -> MeshFile:
    text = json.dumps(header | {"asset": {"version": "2.0"}}).encode()
    text += b" " * (-len(text) % 4)
    return MeshFile(b"glTF" + struct.pack("<IIII", 2, 20 + len(text), len(text), 0x4E4F534A) + text, "glb")


def bounds(glb: bytes) -> np.ndarray:
    return np.asarray(trimesh.load_scene(io.BytesIO(glb), file_type="glb").bounds)


def png(width: int, height: int, colour: tuple[int, int, int] = (200, 30, 40)) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def textured_glb() -> bytes:
    from PIL import Image

    quad = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.open(io.BytesIO(png(8, 4))))
    uv = [[0, 0], [1, 0], [1, 1], [0, 1]]
    quad.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    data: bytes = quad.export(file_type="glb")
    return data


@pytest.mark.parametrize("file_type", ["glb", "gltf", "obj", "off", "ply", "stl"])
def test_every_type_ends_centred_with_longest_side_one(file_type: str) -> None:
    if file_type == "gltf":
        files = trimesh.creation.box((1, 2, 4)).scene().export(file_type="gltf")
        mesh_file = MeshFile(files.pop("model.gltf"), "gltf", files)
    else:
        mesh_file = box_file(file_type, (1, 2, 4))
    result = normalise(mesh_file)
    assert bounds(result.glb) == pytest.approx(np.array([[-0.125, -0.25, -0.5], [0.125, 0.25, 0.5]]), abs=1e-6)
    assert (result.num_triangles, result.watertight) == (12, True)
    assert result.extents == pytest.approx((1, 2, 4))


@pytest.mark.parametrize(("axis", "expected"), [("y", (1, 2, 4)), ("z", (1, 4, 2)), ("x", (2, 1, 4))])
def test_the_up_axis_becomes_y(axis: UpAxis, expected: tuple[float, ...]) -> None:
    assert normalise(box_file("glb", (1, 2, 4)), up_axis=axis).extents == pytest.approx(expected)


@pytest.mark.parametrize(("axis", "tip"), [("y", (0, 1, 0)), ("z", (0, 0, 1)), ("x", (1, 0, 0))])
def test_what_pointed_up_points_up_and_triangles_stay_outward(axis: UpAxis, tip: tuple[float, ...]) -> None:
    cone = trimesh.creation.cone(0.2, 1.0)
    cone.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], tip))
    result = trimesh.load_scene(
        io.BytesIO(normalise(MeshFile(cone.export(file_type="glb"), "glb"), up_axis=axis).glb), file_type="glb"
    ).to_geometry()
    top = result.vertices[result.vertices[:, 1] > 0.49]
    assert top == pytest.approx(np.tile([0, 0.5, 0], (len(top), 1)), abs=1e-6)
    assert result.volume > 0


def test_a_scene_graph_is_flattened_and_mirrored_parts_are_turned_outward() -> None:
    scene = trimesh.Scene()
    box = trimesh.creation.box()
    scene.add_geometry(box, transform=np.diag([-1.0, 1, 1, 1]))
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([3, 0, 0]))
    result = normalise(MeshFile(scene.export(file_type="glb"), "glb"))
    loaded = trimesh.load_scene(io.BytesIO(result.glb), file_type="glb")
    assert result.extents == pytest.approx((4, 1, 1))
    assert [part.volume for part in loaded.geometry.values()] == pytest.approx([1 / 64, 1 / 64])


def test_equal_inputs_give_equal_bytes_and_normalising_twice_changes_nothing() -> None:
    first = normalise(box_file("glb", (1, 2, 4)))
    assert first.glb == normalise(box_file("glb", (1, 2, 4))).glb
    assert normalise(MeshFile(first.glb, "glb")).glb == first.glb


def test_a_texture_keeps_its_very_bytes() -> None:
    result = normalise(MeshFile(textured_glb(), "glb"))
    assert result.colour == "texture"
    assert png(8, 4) in result.glb


def test_an_obj_finds_its_material_and_texture_in_its_side_files() -> None:
    text = "mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"
    files = {"a.mtl": b"newmtl m\nmap_Kd skin.png\n", "skin.png": png(4, 4)}
    assert normalise(MeshFile(text.encode(), "obj", files)).colour == "texture"


def test_vertex_colours_and_their_absence_are_told() -> None:
    box = trimesh.creation.box()
    assert normalise(MeshFile(box.export(file_type="glb"), "glb")).colour == "none"
    box.visual.vertex_colors = np.full((8, 4), [10, 20, 30, 255], np.uint8)
    assert normalise(MeshFile(box.export(file_type="glb"), "glb")).colour == "vertex"


def test_an_open_or_non_manifold_mesh_passes_and_is_marked() -> None:
    fin = trimesh.Trimesh([[0.5, 0.5, 0.5], [0.5, 0.5, -0.5], [2, 2, 0]], [[0, 1, 2]])
    both = trimesh.util.concatenate([trimesh.creation.box(), fin])
    assert not normalise(MeshFile(both.export(file_type="glb"), "glb")).watertight


def test_unused_vertices_do_not_move_the_box() -> None:
    assert normalise(obj("v 99 99 99\nv nan 0 0\n" + TRIANGLE.replace("1 2 3", "3 4 5"))).extents[0] == 1


@pytest.mark.parametrize(
    ("mesh_file", "message"),
    [
        (MeshFile(b"", "glb"), r"the file is empty \(0 bytes\)"),
        (MeshFile(b"hello", "glb"), "not a GLB"),
        (MeshFile(box_file().data[:400], "glb"), "truncated: the GLB's header says 928 bytes, the file has 400"),
        (MeshFile(b"{", "gltf"), "its JSON is broken"),
        (MeshFile(box_file("ply").data[:300], "ply"), "not a readable ply mesh"),
        (MeshFile(box_file("stl").data[:300], "stl"), "its header says 12 triangles, there are 4 and a piece"),
        (glb_of({}), "no geometry"),
        (glb_of({"accessors": [{"count": 10**10}]}), "a list of 10000000000 elements"),
        (obj("v 0 0 0\nv 1 0 0\n"), "points only, no triangles"),
        (obj("v nan 0 0\nv 0 1 0\nv 1 0 0\nf 1 2 3\n"), r"1 of 3 vertices are not finite"),
        (obj("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n"), "all its vertices lie in one point"),
        (obj("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n"), "no area"),
        (obj("v -1e308 0 0\nv 1e308 0 0\nv 0 1 0\nf 1 2 3\n"), "extents overflow"),
        (obj("v 0\nv 1\nv 2\nf 1 2 3\n"), "its vertices have 1 coordinates, not 3"),
    ],
)
def test_bad_files_are_refused_with_the_reason(mesh_file: MeshFile, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        normalise(mesh_file)


def test_points_and_lines_in_a_glb_are_no_mesh() -> None:
    points = trimesh.Scene([trimesh.PointCloud(np.eye(3))]).export(file_type="glb")
    with pytest.raises(BadInput, match="points only"):
        normalise(MeshFile(points, "glb"))
    lines = trimesh.Scene([trimesh.load_path([[[0, 0, 0], [1, 0, 0]]])]).export(file_type="glb")
    with pytest.raises(BadInput, match="lines only"):
        normalise(MeshFile(lines, "glb"))


def test_limits_count_instances_and_all_textures() -> None:
    scene = trimesh.Scene()
    for _ in range(4):
        scene.add_geometry(trimesh.creation.box(), geom_name="box")
    with pytest.raises(BadInput, match=r"48 triangles are over the limit of 40 \(ingest.max_triangles\)"):
        normalise(MeshFile(scene.export(file_type="glb"), "glb"), limits=Limits(max_triangles=40))
    with pytest.raises(BadInput, match="textures of 32 pixels are over the limit of 31"):
        normalise(MeshFile(textured_glb(), "glb"), limits=Limits(max_texture_pixels=31))


def test_a_broken_texture_is_refused() -> None:
    data = bytearray(textured_glb())
    start = data.index(b"IDAT") + 4
    data[start : start + 8] = b"\xff" * 8
    with pytest.raises(BadInput, match="a texture is not readable"):
        normalise(MeshFile(bytes(data), "glb"))

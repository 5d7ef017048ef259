"""What glTF allows is read as the format means it, or refused by its name with what to do."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from models.errors import BadInput
from models.meshfiles import Limits, MeshFile, read
from models.normalise import normalise
from tests.models.meshfiles.scenes import (
    BOX_FACES,
    BOX_VERTICES,
    CASES,
    COMPONENT_TYPES,
    Gltf,
    case,
    colours,
    contents,
    extents,
    glb_of_box,
    image,
    whole,
)

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 30), (30, 60, 220), (255, 255, 255)
SQUARE = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "<f4")
TWO_TRIANGLES = np.array([0, 1, 2, 0, 2, 3], "<u2")
CENTRES = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]], "<f4")
"""Of the four pixels of QUADRANTS: upper left, upper right, lower right, lower left."""
QUADRANTS = image([RED, GREEN], [WHITE, BLUE])
SEEN = [list(colour) for colour in (RED, GREEN, BLUE, WHITE)]

needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not there")


def textured(info: dict[str, Any], uv: dict[str, Any], texture: bytes = QUADRANTS, **sampler: int) -> Gltf:
    """A square whose corners see the four pixels."""
    gltf = Gltf()
    attributes = {name: values if isinstance(values, int) else gltf.accessor(values) for name, values in uv.items()}
    info = {"index": gltf.texture(texture, **sampler)} | info
    material = gltf.add("materials", {"pbrMetallicRoughness": {"baseColorTexture": info}})
    positions = gltf.accessor(SQUARE)
    indices = gltf.accessor(TWO_TRIANGLES)
    gltf.node(mesh=gltf.mesh({"POSITION": positions} | attributes, indices=indices, material=material))
    return gltf


@needs_cases
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("01_sparse_accessor/inbox/stretched.glb", (2, 0.6, 0.4)),
        ("07_instancing/inbox/row_of_three.glb", (5, 0.6, 0.4)),
        ("08_skinned/inbox/body_cm_hat_m.glb", (1, 0.9, 0.4)),
        ("08_skinned/inbox/weights1.glb", (2, 0.6, 0.4)),
        ("05_texture_transform/inbox/ref_gltfpack.glb", (1, 0.6, 0.4)),
        ("24_valid_gltf_refused/inbox/bom.gltf", (1, 0.6, 0.4)),
        ("24_valid_gltf_refused/inbox/nul_padded_json.glb", (1, 0.6, 0.4)),
        ("24_valid_gltf_refused/inbox/default_is_second.glb", (1, 0.6, 0.4)),
        ("24_valid_gltf_refused/inbox/orphan_node.glb", (1, 0.6, 0.4)),
        ("24_valid_gltf_refused/inbox/tri_and_points.glb", (1, 0.6, 0.4)),
        ("24_valid_gltf_refused/inbox/neg.glb", (0.4, 1.2, 1)),
        ("24_valid_gltf_refused/inbox/fan.glb", (1, 1, 0.5)),
        ("24_valid_gltf_refused/inbox/strip.glb", (1, 1, 0.5)),
    ],
)
def test_cases_have_their_right_size(path: str, expected: tuple[float, ...]) -> None:
    assert normalise(case(path)).extents == pytest.approx(expected, abs=1e-4)


@needs_cases
@pytest.mark.parametrize("name", ["scaled", "texcoord1", "ref_gltfpack"])
def test_cases_with_moved_textures_look_like_the_reference(name: str) -> None:
    reference = whole(case("05_texture_transform/inbox/ref.glb"))
    moved = whole(case(f"05_texture_transform/inbox/{name}.glb"))
    expected = dict(zip(_keys(reference), colours(case("05_texture_transform/inbox/ref.glb")), strict=True))
    found = dict(zip(_keys(moved), colours(case(f"05_texture_transform/inbox/{name}.glb")), strict=True))
    assert found == expected
    assert len({tuple(colour) for colour in found.values()}) == 6


def _keys(mesh: Any) -> list[tuple[float, ...]]:
    """Vertices by their place and the side of the box that they belong to."""
    rounded = np.round(np.concatenate([mesh.vertices, mesh.vertex_normals], axis=1), 3) + 0.0
    return [tuple(row) for row in rounded.tolist()]


@needs_cases
def test_cases_of_vertex_colours_look_the_same() -> None:
    as_float, as_u16, as_u8 = (
        np.array(colours(case(f"09_vertex_colour_u16/inbox/{name}.glb")))
        for name in ("float_linear", "u16_normalised", "u8_normalised")
    )
    np.testing.assert_array_equal(as_float, as_u16)
    assert np.abs(as_u8 - as_float).max() <= 2, "8 linear bits are coarse where it is dark"
    assert sorted({tuple(row) for row in as_float.tolist()})[:2] == [(24, 57, 221), (24, 201, 24)]


@needs_cases
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("03_draco_half/inbox/half.glb", "Draco .KHR_draco_mesh_compression.*`gltf-transform copy IN.glb OUT.glb`"),
        ("04_draco_meshopt_messages/inbox/torus.glb", "KHR_draco_mesh_compression"),
        ("04_draco_meshopt_messages/inbox/ref_gltfpack_c.glb", "EXT_meshopt_compression.*`gltfpack -i .* -noq`"),
        ("06_required_texture/inbox/ktx2.glb", "KHR_texture_basisu.*`gltf-transform ktxdecompress"),
        ("20_lfs_pointers/inbox/lfs_pointer.glb", "`git lfs pull`"),
        ("20_lfs_pointers/inbox/html_error.glb", "a web page"),
    ],
)
def test_cases_that_cannot_be_read_say_what_to_do(path: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        normalise(case(path))


@needs_cases
@pytest.mark.parametrize("name", ["webp", "avif"])
def test_cases_of_newer_image_formats_are_read_and_stored_as_png(name: str) -> None:
    result = normalise(case(f"06_required_texture/inbox/{name}.glb"))
    assert result.colour == "texture"
    assert b"\x89PNG" in result.glb
    close = np.array(colours(MeshFile(result.glb, "glb")))
    assert np.abs(close - colours(case("05_texture_transform/inbox/ref.glb"))).max() <= 3


# --- accessors


def test_a_sparse_accessor_replaces_values_of_a_base_or_of_zeros() -> None:
    gltf = Gltf()
    where, what = np.array([1, 2], "<u1"), np.array([[3, 0, 0], [3, 2, 0]], "<f4")
    sparse = {
        "count": 2,
        "indices": {"bufferView": gltf.view(where.tobytes()), "componentType": 5121},
        "values": {"bufferView": gltf.view(what.tobytes())},
    }
    base = gltf.accessor(SQUARE, sparse=sparse)
    zeros = gltf.add("accessors", {"componentType": 5126, "count": 4, "type": "VEC3", "sparse": sparse})
    indices = gltf.accessor(TWO_TRIANGLES)
    gltf.node(mesh=gltf.mesh({"POSITION": base}, indices=indices))
    gltf.node(mesh=gltf.mesh({"POSITION": zeros}, indices=indices))
    on_base, on_zeros = (part.vertices_N3.tolist() for part in contents(gltf.glb()).parts())
    assert on_base == [[0, 0, 0], [3, 0, 0], [3, 2, 0], [0, 1, 0]]
    assert on_zeros == [[0, 0, 0], [3, 0, 0], [3, 2, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("values", "normalized", "expected"),
    [
        (np.array([[0, 0, 0], [255, 0, 0], [0, 51, 0]], "u1"), True, (1, 0.2, 0)),
        (np.array([[0, 0, 0], [255, 0, 0], [0, 51, 0]], "u1"), False, (255, 51, 0)),
        (np.array([[-32767, 0, 0], [32767, 0, 0], [-32768, 0, -16384]], "<i2"), True, (2, 0, 0.50002)),
        (np.array([[-5, 0, 0], [7, 0, 0], [0, 0, -3]], "i1"), False, (12, 0, 3)),
        (np.array([[0, 0, 0], [65535, 0, 0], [0, 13107, 0]], "<u2"), True, (1, 0.2, 0)),
    ],
)
def test_quantised_positions_are_numbers_or_fractions_as_they_say(
    values: Any, normalized: bool, expected: tuple[float, ...]
) -> None:
    gltf = Gltf()
    padded = np.zeros((3, 4), values.dtype)  # rows are a multiple of four bytes apart
    padded[:, :3] = values
    view = gltf.view(padded.tobytes(), byteStride=4 * values.dtype.itemsize)
    entry = {"bufferView": view, "componentType": COMPONENT_TYPES[values.dtype.str[1:]], "count": 3, "type": "VEC3"}
    positions = gltf.add("accessors", entry | {"normalized": normalized})
    gltf.node(mesh=gltf.mesh({"POSITION": positions}))
    gltf.header["extensionsRequired"] = ["KHR_mesh_quantization"]
    assert extents(gltf.glb()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"count": 40}, "truncated: an accessor ends at byte 480, its buffer view has 96"),
        ({"byteOffset": 4}, "truncated: an accessor ends at byte 100"),
        ({"bufferView": 9}, r"it refers to bufferViews\[9\], there are 2"),
        ({"componentType": 5130}, "components of type 5130, which glTF 2.0 does not know"),
        ({"type": "VEC2"}, "its vertices have 2 coordinates, not 3"),
        ({"type": "VEC9"}, "not a readable gltf: KeyError"),
        ({"count": "many"}, "not a readable gltf"),
        ({"sparse": {"count": 99, "indices": {}, "values": {}}}, "a sparse accessor replaces 99 of 8 values"),
    ],
)
def test_a_broken_accessor_is_refused(damage: dict[str, Any], message: str) -> None:
    gltf = Gltf()
    gltf.node(mesh=gltf.box())
    gltf.header["accessors"][0] |= damage
    with pytest.raises(BadInput, match=message):
        contents(gltf.glb())


# --- nodes


def test_copies_of_a_mesh_stand_turn_and_grow_where_instancing_says() -> None:
    gltf = Gltf()
    quarter = [0, 0, np.sqrt(0.5), np.sqrt(0.5)]  # about Z: x becomes y
    attributes = {
        "TRANSLATION": gltf.accessor(np.array([[0, 0, 0], [10, 0, 0]], "<f4")),
        "ROTATION": gltf.accessor(np.array([[0, 0, 0, 1], quarter], "<f4")),
        "SCALE": gltf.accessor(np.array([[1, 1, 1], [2, 2, 2]], "<f4")),
    }
    instancing = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    gltf.node(mesh=gltf.box(), scale=[1, 1, 3], extensions=instancing)
    first, second = contents(gltf.glb()).parts()
    np.testing.assert_allclose(np.ptp(first.vertices_N3, axis=0), (1, 0.6, 1.2), atol=1e-6)
    np.testing.assert_allclose(np.ptp(second.vertices_N3, axis=0), (1.2, 2, 2.4), atol=1e-6)
    np.testing.assert_allclose(second.vertices_N3.mean(axis=0), (10, 0, 0), atol=1e-6)


def test_copies_count_against_the_limit_before_they_are_made() -> None:
    gltf = Gltf()
    many = gltf.add("accessors", {"componentType": 5126, "count": 900_000, "type": "VEC3"})
    gltf.node(mesh=gltf.box(), extensions={"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": many}}})
    with pytest.raises(BadInput, match=r"10800000 triangles are over the limit of 2000000 \(ingest.max_triangles\)"):
        contents(gltf.glb(), Limits())


def test_a_skin_moves_vertices_by_its_joints_and_not_by_its_own_node() -> None:
    gltf = Gltf()
    joints = np.array([[0, 1, 0, 0]] * 4, "u1")
    weights = np.array([[255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 0, 0], [127, 127, 0, 0]], "u1")
    attributes = {
        "POSITION": gltf.accessor(SQUARE),
        "JOINTS_0": gltf.accessor(joints),
        "WEIGHTS_0": gltf.accessor(weights, normalized=True),
    }
    inverse = np.stack([np.eye(4), np.diag([2, 2, 2, 1])]).astype("<f4")
    inverse[1, 3, :3] = (5, 0, 0)  # column by column: a move by 5
    body = gltf.mesh(attributes, indices=gltf.accessor(TWO_TRIANGLES))
    gltf.node(mesh=body, skin=0, translation=[100, 100, 100], scale=[9, 9, 9])
    parent = gltf.node(translation=[0, 0, 1], children=[2, 3])
    assert parent == 1
    gltf.add("nodes", {})
    gltf.add("nodes", {"translation": [0, 10, 0]})
    gltf.header["skins"] = [{"joints": [2, 3], "inverseBindMatrices": gltf.accessor(inverse.reshape(2, 16))}]
    (part,) = contents(gltf.glb()).parts()
    np.testing.assert_allclose(
        part.vertices_N3,
        [
            (0, 0, 1),  # follows joint 0 alone
            (7, 10, 1),  # joint 1 alone: twice, moved by 5, then up by 10
            (1, 1, 1),  # no weight: its first joint
            ((0 + 5) / 2, (1 + 12) / 2, 1),  # half and half, though 127 + 127 is no 255
        ],
        atol=1e-6,
    )


def test_morph_weights_of_the_node_come_before_those_of_the_mesh() -> None:
    gltf = Gltf()
    targets = [{"POSITION": gltf.accessor(np.tile([1.0, 0, 0], (8, 1)) * (BOX_VERTICES > 0))}]
    gltf.node(mesh=gltf.box(targets=targets, mesh_weights=[1.0]))
    assert extents(gltf.glb()) == pytest.approx((2, 0.6, 0.4))
    gltf.header["nodes"][0]["weights"] = [0.5]
    assert extents(gltf.glb()) == pytest.approx((1.5, 0.6, 0.4))
    gltf.header["meshes"][0].pop("weights")
    gltf.header["nodes"][0].pop("weights")
    assert extents(gltf.glb()) == pytest.approx((1, 0.6, 0.4))


def test_a_mirrored_node_keeps_its_triangles_outward() -> None:
    gltf = Gltf()
    gltf.node(mesh=gltf.box(), scale=[-1, 2, 1])
    assert whole(gltf.glb()).volume == pytest.approx(0.48)


def test_a_node_with_a_camera_keeps_its_mesh_and_its_children() -> None:
    gltf = Gltf()
    gltf.header["cameras"] = [{"type": "perspective", "perspective": {"yfov": 1, "znear": 0.1}}]
    box = gltf.box()
    gltf.node(mesh=box, camera=0, children=[1])
    gltf.add("nodes", {"mesh": box, "translation": [4, 0, 0]})
    assert extents(gltf.glb()) == pytest.approx((5, 0.6, 0.4))


def test_hidden_nodes_and_other_scenes_are_not_shown() -> None:
    gltf = Gltf()
    box = gltf.box()
    gltf.node(mesh=box, matrix=[2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1])
    gltf.node(translation=[50, 0, 0], children=[2], extensions={"KHR_node_visibility": {"visible": False}})
    gltf.add("nodes", {"mesh": box})
    gltf.add("nodes", {"mesh": box, "translation": [0, 70, 0]})
    gltf.header["scenes"].append({"nodes": [3]})
    assert extents(gltf.glb()) == pytest.approx((2, 0.6, 0.4))
    gltf.header["scene"] = 1
    assert whole(gltf.glb()).centroid == pytest.approx((0, 70, 0))


def test_a_file_without_scenes_shows_its_roots() -> None:
    gltf = Gltf()
    gltf.node(mesh=gltf.box(), translation=[1, 0, 0])
    del gltf.header["scenes"]
    assert whole(gltf.glb()).centroid == pytest.approx((1, 0, 0))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([{"children": [1]}, {"children": [0]}], "some are their own children"),
        ([{"children": [2]}, {"children": [2]}, {}], r"nodes\[2\] has two parents"),
        ([{"children": [7]}], r"it refers to nodes\[7\], there are 1"),
        ([{"mesh": 4}], r"it refers to meshes\[4\], there are 1"),
        ([{"mesh": 0, "scale": [float("nan"), 1, 1]}], "a node's transform is not finite"),
        ([{"mesh": 0, "skin": 0}], "says no joints of its vertices"),
        ([{}], "its scene shows no mesh"),
    ],
)
def test_nodes_that_cannot_be_are_refused(nodes: list[dict[str, Any]], message: str) -> None:
    gltf = Gltf()
    gltf.box()
    gltf.header |= {"nodes": nodes, "scenes": [{"nodes": [0]}], "skins": [{"joints": [0]}]}
    with pytest.raises(BadInput, match=message):
        normalise(gltf.glb())


# --- topology


@pytest.mark.parametrize(
    ("mode", "indices", "faces"),
    [
        (4, [0, 1, 2, 0, 2, 3, 1], [[0, 1, 2], [0, 2, 3]]),
        (5, [0, 1, 3, 2], [[0, 1, 3], [1, 2, 3]]),
        (5, [0, 1, 3, 3, 3, 1, 2], [[0, 1, 3], [3, 1, 2]]),
        (6, [0, 1, 2, 3], [[1, 2, 0], [2, 3, 0]]),
        (6, None, [[1, 2, 0], [2, 3, 0]]),
    ],
)
def test_lists_strips_and_fans_are_turned_alike(mode: int, indices: list[int] | None, faces: list[list[int]]) -> None:
    gltf = Gltf()
    more = {} if indices is None else {"indices": gltf.accessor(np.array(indices, "<u4"))}
    gltf.node(mesh=gltf.mesh({"POSITION": gltf.accessor(SQUARE)}, mode=mode, **more))
    (part,) = contents(gltf.glb()).parts()
    assert part.faces_F3.tolist() == faces
    assert whole(gltf.glb()).face_normals.tolist() == [[0, 0, 1]] * len(faces)


# --- textures


def test_a_texture_is_read_where_its_channel_and_transform_say() -> None:
    turned = {"offset": [0.25, 1.0], "rotation": np.pi / 2, "scale": [0.5, 0.5]}
    assert colours(textured({}, {"TEXCOORD_0": CENTRES}).glb()) == SEEN
    assert colours(textured({"texCoord": 1}, {"TEXCOORD_0": CENTRES * 0, "TEXCOORD_1": CENTRES}).glb()) == SEEN
    moved = {"extensions": {"KHR_texture_transform": {"texCoord": 2, "scale": [0.1, 2], "offset": [0.2, -3]}}}
    shrunk = (CENTRES - (0.2, -3)) / (0.1, 2)
    assert colours(textured({"texCoord": 1} | moved, {"TEXCOORD_2": shrunk}).glb()) == SEEN
    (part,) = contents(
        textured({"extensions": {"KHR_texture_transform": turned}}, {"TEXCOORD_0": SQUARE[:, :2]}).glb()
    ).parts()
    np.testing.assert_allclose(part.uv_N2, [(0.25, 1), (0.25, 0.5), (0.75, 0.5), (0.75, 1)], atol=1e-6)


def test_the_formats_own_example_uses_the_lower_left_quadrant_turned_clockwise() -> None:
    """From the README of KHR_texture_transform; v grows downward."""
    transform = {"offset": [0, 1], "rotation": 1.57079632679, "scale": [0.5, 0.5]}
    info = {"extensions": {"KHR_texture_transform": transform}}
    (part,) = contents(textured(info, {"TEXCOORD_0": SQUARE[:, :2]}).glb()).parts()
    uv_N2 = np.asarray(part.uv_N2)
    assert (uv_N2.min(axis=0).round(6) + 0.0).tolist() == [0, 0.5]
    assert (uv_N2.max(axis=0).round(6)).tolist() == [0.5, 1]


def test_a_texture_without_its_coordinates_is_no_texture() -> None:
    result = normalise(textured({"texCoord": 1}, {"TEXCOORD_0": CENTRES}).glb())
    assert result.colour == "none"
    assert result.left_out == ("a texture has no coordinates: its part lacks TEXCOORD_1",)


@pytest.mark.parametrize(
    ("wrap", "seen"),
    [(10497, [RED, GREEN, BLUE, WHITE]), (33071, [GREEN, GREEN, BLUE, BLUE]), (33648, [GREEN, RED, WHITE, BLUE])],
)
def test_wrap_modes_survive(wrap: int, seen: list[tuple[int, ...]]) -> None:
    beyond = CENTRES + np.array([1, 0], "<f4")
    mesh_file = textured({}, {"TEXCOORD_0": beyond}, wrapS=wrap, wrapT=10497).glb()
    assert colours(mesh_file) == [list(colour) for colour in seen]
    assert colours(MeshFile(normalise(mesh_file).glb, "glb")) == [list(colour) for colour in seen]


def test_images_beside_a_glb_or_in_a_data_uri_are_read() -> None:
    gltf = textured({}, {"TEXCOORD_0": CENTRES})
    gltf.header["images"] = [{"uri": "my%20skin.png"}]
    glb = gltf.glb()
    assert colours(MeshFile(glb.data, "glb", {"my%20skin.png": QUADRANTS})) == SEEN
    lost = normalise(glb)
    assert (lost.colour, lost.left_out) == ("none", ("the texture 'my%20skin.png' is not there",))
    gltf.header["images"] = [{"uri": "data:image/png;base64," + base64.b64encode(QUADRANTS).decode()}]
    assert colours(gltf.glb()) == SEEN


def test_a_gltf_reads_its_buffer_from_beside_or_says_that_it_is_missing() -> None:
    gltf = textured({}, {"TEXCOORD_0": CENTRES})
    header = gltf.header | {"buffers": [{"byteLength": len(gltf.binary), "uri": "a.bin"}]}
    text = json.dumps(header).encode()
    assert colours(MeshFile(text, "gltf", {"a.bin": bytes(gltf.binary)})) == SEEN
    with pytest.raises(BadInput, match=r"the mesh refers to 'a.bin', which is not there: lay it beside"):
        contents(MeshFile(text, "gltf"))


def test_the_content_and_not_the_name_says_which_of_the_two_gltfs_it_is() -> None:
    glb = glb_of_box()
    assert extents(MeshFile(glb.data, "gltf")) == pytest.approx((1, 0.6, 0.4))


def test_a_plain_image_is_taken_where_there_is_a_compressed_one_too() -> None:
    gltf = textured({}, {"TEXCOORD_0": CENTRES})
    gltf.header["textures"][0]["extensions"] = {"KHR_texture_basisu": {"source": 9}}
    assert colours(gltf.glb()) == SEEN


@pytest.mark.parametrize(
    ("texture", "message"),
    [
        ({"extensions": {"KHR_texture_basisu": {"source": 0}}}, "KHR_texture_basisu.*ktxdecompress"),
        ({"extensions": {"MSFT_texture_dds": {"source": 0}}}, "MSFT_texture_dds.*PNG"),
        ({"extensions": {"ACME_texture_x": {"source": 0}}}, r"no image that is read here \(ACME_texture_x\)"),
        ({}, "none at all"),
    ],
)
def test_a_base_colour_in_an_unknown_image_is_refused_and_a_bump_map_left_out(
    texture: dict[str, Any], message: str
) -> None:
    gltf = textured({}, {"TEXCOORD_0": CENTRES})
    gltf.header["textures"][0] = texture
    with pytest.raises(BadInput, match=message):
        contents(gltf.glb())
    material = gltf.header["materials"][0]
    material["normalTexture"] = material.pop("pbrMetallicRoughness")["baseColorTexture"]
    assert normalise(gltf.glb()).colour == "none"


def test_ktx2_bytes_are_refused_whatever_the_header_calls_them() -> None:
    with pytest.raises(BadInput, match=r"stored as KTX2.*ktxdecompress"):
        contents(textured({}, {"TEXCOORD_0": CENTRES}, b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(64)).glb())


def test_maps_that_are_not_drawn_are_kept_where_they_share_the_coordinates() -> None:
    gltf = textured({}, {"TEXCOORD_0": CENTRES, "TEXCOORD_1": CENTRES})
    bumps, glow = image([WHITE]), image([BLUE])
    gltf.header["materials"][0] |= {
        "normalTexture": {"index": gltf.texture(bumps)},
        "emissiveTexture": {"index": gltf.texture(glow), "texCoord": 1},
        "emissiveFactor": [1, 0, 0],
    }
    glb = normalise(gltf.glb()).glb
    assert (bumps in glb, glow in glb, QUADRANTS in glb) == (True, False, True)
    (part,) = contents(MeshFile(glb, "glb")).parts()
    assert part.material is not None
    assert part.material.stored["emissiveFactor"] == [1, 0, 0]


def test_the_older_specular_material_shows_its_diffuse_colour() -> None:
    gltf = Gltf()
    specular = {"diffuseFactor": [0.5, 0.1, 0.1, 1], "specularFactor": [0, 0, 0]}
    material = gltf.add("materials", {"extensions": {"KHR_materials_pbrSpecularGlossiness": specular}})
    gltf.node(mesh=gltf.box(material=material))
    gltf.header["extensionsRequired"] = ["KHR_materials_pbrSpecularGlossiness"]
    red, green, blue = colours(gltf.glb())[0]
    assert (red > 180, green, blue) == (True, blue, green)


# --- colours


def test_vertex_colours_are_linear_whatever_their_width_and_multiply_the_base_colour() -> None:
    linear = np.array([[1, 0.25, 0], [0.5, 1, 0], [0, 0, 0.75], [1, 1, 1]])
    seen = [[255, 137, 0], [188, 255, 0], [0, 0, 225], [255, 255, 255]]
    stored = {
        "float": linear.astype("<f4"),
        "u16": np.rint(linear * 65535).astype("<u2"),
        "u8": np.rint(linear * 255).astype("u1"),
    }
    for name, values in stored.items():
        gltf = Gltf()
        padded = np.concatenate([values, np.full((4, 1), 1 if name == "float" else np.iinfo(values.dtype).max)], axis=1)
        colour = gltf.accessor(padded.astype(values.dtype), normalized=True)
        indices = gltf.accessor(TWO_TRIANGLES)
        gltf.node(mesh=gltf.mesh({"POSITION": gltf.accessor(SQUARE), "COLOR_0": colour}, indices=indices))
        assert np.abs(np.array(colours(gltf.glb())) - seen).max() <= 1, name
        factor = {"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 1, 1]}}
        gltf.header["meshes"][0]["primitives"][0]["material"] = gltf.add("materials", factor)
        assert [row[0] for row in colours(gltf.glb())] == pytest.approx([188, 137, 0, 188], abs=1)
        assert normalise(gltf.glb()).colour == "vertex"


def test_vertex_colours_multiply_a_texture_and_white_ones_say_nothing() -> None:
    shades = np.array([[1, 1, 1], [0, 0, 0], [1, 1, 1], [0.2, 0.2, 0.2]], "<f4")
    gltf = textured({}, {"TEXCOORD_0": CENTRES, "COLOR_0": shades})
    expected = [list(RED), [0, 0, 0], list(BLUE), [124, 124, 124]]
    assert colours(gltf.glb()) == expected
    assert colours(MeshFile(normalise(gltf.glb()).glb, "glb")) == expected
    (plain,) = contents(textured({}, {"TEXCOORD_0": CENTRES, "COLOR_0": shades * 0 + 1}).glb()).parts()
    assert plain.colours_N4 is None


def test_a_base_colour_that_is_not_finite_is_refused() -> None:
    gltf = Gltf()
    factor = {"pbrMetallicRoughness": {"baseColorFactor": [float("nan"), 1, 1, 1]}}
    gltf.node(mesh=gltf.box(material=gltf.add("materials", factor)))
    with pytest.raises(BadInput, match="base colour is not finite"):
        contents(gltf.glb())


def test_colours_that_are_not_finite_or_too_few_are_refused() -> None:
    unknown, few = np.full((4, 3), np.nan), np.ones((3, 3))
    for values, message in ((unknown, "not finite"), (few, "3 vertex colours are there for 4 vertices")):
        with pytest.raises(BadInput, match=message):
            contents(textured({}, {"TEXCOORD_0": CENTRES, "COLOR_0": values}).glb())


def test_whole_numbers_of_a_colour_are_fractions_though_a_writer_forgets_to_say_so() -> None:
    gltf = Gltf()
    colour = gltf.accessor(np.tile(np.array([255, 1, 255, 255], "u1"), (8, 1)))
    gltf.node(mesh=gltf.box(attributes={"COLOR_0": colour}))
    assert colours(gltf.glb())[0] == [255, 13, 255]


def test_a_texture_that_trimesh_wrote_is_not_darkened_by_its_grey() -> None:
    square = trimesh.Trimesh(SQUARE, TWO_TRIANGLES.reshape(-1, 3), process=False)
    picture = Image.open(io.BytesIO(QUADRANTS))
    square.visual = trimesh.visual.TextureVisuals(uv=np.array([0, 1]) + CENTRES * (1, -1), image=picture)
    written = MeshFile(square.export(file_type="glb"), "glb")
    assert b"[0.4,0.4,0.4,1.0]" in written.data
    assert colours(written) == SEEN
    by_another = written.data.replace(b"https://github.com/mikedh/trimesh", b"https://example.org/another-tool.")
    assert colours(MeshFile(by_another, "glb"))[3] == [170, 170, 170]


def test_trimeshs_vertex_colours_are_taken_as_the_srgb_that_they_are() -> None:
    box = trimesh.creation.box()
    box.visual.vertex_colors = np.full((8, 4), [10, 120, 30, 255], np.uint8)
    assert colours(MeshFile(box.export(file_type="glb"), "glb"))[0] == [10, 120, 30]


# --- the gate


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"extensionsRequired": ["ACME_hair"]}, "it requires the extension ACME_hair, which is not known here"),
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "gltf-transform copy"),
        ({"extensionsRequired": ["KHR_meshopt_compression"]}, "KHR_meshopt_compression.*gltfpack"),
        ({"extensionsRequired": ["KHR_gaussian_splatting"]}, "3D Gaussian splats"),
        ({"extensionsRequired": 5}, "not a readable gltf"),
        ({"asset": {"version": "1.0"}}, "it is of glTF 1.0: export it again as glTF 2.0"),
        ({"accessors": [{}]}, "not a readable gltf: KeyError"),
    ],
)
def test_what_a_file_requires_is_known_or_refused_by_name(header: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        contents(glb_of_box(**header))


@pytest.mark.parametrize(
    "name", ["KHR_materials_transmission", "KHR_lights_punctual", "KHR_texture_basisu", "EXT_texture_avif", "VRMC_vrm"]
)
def test_what_changes_neither_shape_nor_base_colour_may_be_required(name: str) -> None:
    assert extents(glb_of_box(extensionsRequired=[name], extensionsUsed=[name])) == pytest.approx((1, 0.6, 0.4))


def test_an_unknown_extension_that_is_merely_used_is_passed_over() -> None:
    assert extents(glb_of_box(extensionsUsed=["ACME_hair"])) == pytest.approx((1, 0.6, 0.4))


def test_compression_is_refused_where_it_is_met_and_read_past_where_the_plain_data_are_there() -> None:
    gltf = Gltf()
    gltf.node(mesh=gltf.box(extensions={"KHR_draco_mesh_compression": {"bufferView": 0}}))
    assert extents(gltf.glb()) == pytest.approx((1, 0.6, 0.4))
    del gltf.header["accessors"][0]["bufferView"]
    with pytest.raises(BadInput, match="Draco"):
        contents(gltf.glb())
    gltf = Gltf()
    gltf.node(mesh=gltf.box())
    gltf.header["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {"buffer": 0}}
    assert extents(gltf.glb()) == pytest.approx((1, 0.6, 0.4))
    gltf.header["bufferViews"][0]["buffer"] = 1
    gltf.further_buffers = [{"byteLength": 96, "extensions": {"EXT_meshopt_compression": {"fallback": True}}}]
    with pytest.raises(BadInput, match=r"EXT_meshopt_compression.*gltfpack"):
        contents(gltf.glb())


def test_no_header_makes_the_reader_raise_anything_else() -> None:
    """Small damages to a header that uses much: each is read, or refused as bad input."""
    gltf = textured({"extensions": {"KHR_texture_transform": {"scale": [2, 2]}}}, {"TEXCOORD_0": CENTRES})
    gltf.node(mesh=0, extensions={"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 1}}})
    original = gltf.header
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(600):
        gltf.header = json.loads(json.dumps(original))
        _damage(gltf.header, rng)
        try:
            read(gltf.glb(), Limits(max_triangles=1000))
            outcomes["read"] += 1
        except BadInput:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50


def _damage(entry: Any, rng: np.random.Generator) -> None:
    """Replace one value somewhere below by something of another kind."""
    while True:
        keys = list(entry) if isinstance(entry, dict) else list(range(len(entry)))
        key = keys[rng.integers(len(keys))]
        if isinstance(entry[key], dict | list) and entry[key] and rng.random() < 0.8:
            entry = entry[key]
            continue
        entry[key] = [None, -1, 10**12, "x", [], {}, 1.5, True][rng.integers(8)]
        return


def test_positions_of_faces_are_those_of_the_file() -> None:
    mesh = whole(glb_of_box())
    np.testing.assert_array_equal(mesh.vertices, BOX_VERTICES)
    np.testing.assert_array_equal(mesh.faces.reshape(-1), BOX_FACES)

"""The GLB that is written is core glTF 2.0, which any reader takes for what it is."""

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
import trimesh

from models.geometry import Mesh
from models.meshfiles import Material, MeshFile, Part, Texture, read, read_glb, write_glb
from models.meshfiles.colours import linear_from_srgb, srgb_from_linear
from tests.models.meshfiles.scenes import colours, image

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float64)
FACE = np.array([[0, 1, 2]])
UV = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]])


def header_of(glb: bytes) -> dict[str, Any]:
    (length,) = struct.unpack_from("<I", glb, 12)
    header: dict[str, Any] = json.loads(glb[20 : 20 + length])
    return header


def test_every_srgb_byte_survives_as_linear_light() -> None:
    grey = np.repeat(np.arange(256)[:, None], 3, axis=1).astype(np.uint8)
    np.testing.assert_array_equal(srgb_from_linear(linear_from_srgb(grey / 255).astype(np.float32)), grey)
    assert linear_from_srgb(np.array([[0.5, 0.04045, 1.0, 0.5]]))[0] == pytest.approx(
        [0.21404, 0.0031308, 1, 0.5], rel=1e-4
    )


def test_vertex_colours_of_a_mesh_are_stored_linear_and_come_back_unchanged() -> None:
    rgba = np.array([[188, 0, 255, 255], [1, 2, 3, 255], [137, 10, 99, 255]], np.uint8)
    mesh = Mesh(CORNERS.astype(np.float32), FACE.astype(np.int32), rgba)
    glb = mesh.to_glb()
    np.testing.assert_array_equal(Mesh.from_glb(glb).colours_N4, rgba)
    np.testing.assert_array_equal(Mesh.from_glb(mesh.to_glb()).vertices_N3, mesh.vertices_N3)
    seen_by_others = trimesh.load_scene(io.BytesIO(glb), file_type="glb").to_geometry().visual.vertex_colors
    assert np.abs(seen_by_others[0].astype(int) - [128, 0, 255, 255]).max() <= 1, "188 of sRGB is half the light"
    half_clear = Mesh(mesh.vertices_N3, mesh.faces_F3, rgba // [1, 1, 1, 2])
    np.testing.assert_array_equal(Mesh.from_glb(half_clear.to_glb()).colours_N4, half_clear.colours_N4)


def test_accessors_lie_on_multiples_of_four_and_say_their_bounds() -> None:
    texture = Texture(image([(1, 2, 3)]) + b"x")  # an odd number of bytes
    glb = write_glb([Part(CORNERS, FACE, UV, None, Material(texture=texture)), Part(CORNERS + 2, FACE)])
    header = header_of(glb)
    assert len(glb) == struct.unpack_from("<I", glb, 8)[0]
    assert all(view["byteOffset"] % 4 == 0 for view in header["bufferViews"])
    last = header["bufferViews"][-1]
    assert last["byteOffset"] + last["byteLength"] <= header["buffers"][0]["byteLength"]
    assert [(entry["min"], entry["max"]) for entry in header["accessors"] if "min" in entry] == [
        ([0, 0, 0], [1, 1, 0]),
        ([2, 2, 2], [3, 3, 2]),
    ]
    assert trimesh.load_scene(io.BytesIO(glb), file_type="glb").extents == pytest.approx([3, 3, 2])
    assert "extensionsRequired" not in header


def test_parts_share_materials_and_images_and_png_and_jpeg_keep_their_bytes() -> None:
    png, jpeg = image([(200, 10, 10)]), image([(10, 200, 10)], kind="JPEG")
    shared = Material(texture=Texture(png), maps={"normalTexture": Texture(jpeg)})
    clamped = Material((0.5, 0.5, 0.5, 1.0), Texture(png, ("clamp", "mirror")), alpha_cutoff=0.25)
    parts = [Part(CORNERS, FACE, UV, None, material) for material in (shared, shared, clamped)]
    glb = write_glb(parts)
    assert (glb.count(png), glb.count(jpeg)) == (1, 1)
    header = header_of(glb)
    assert [len(header[kind]) for kind in ("materials", "textures", "images", "samplers")] == [2, 3, 2, 1]
    assert header["samplers"] == [{"wrapS": 33071, "wrapT": 33648}]
    assert write_glb(parts) == glb
    assert write_glb(read_glb(glb)) == glb
    third = read_glb(glb)[2]
    assert third.material is not None
    assert (third.material.base_colour, third.material.alpha_cutoff) == ((0.5, 0.5, 0.5, 1), 0.25)


def test_images_of_other_formats_are_stored_as_png() -> None:
    for kind in ("WEBP", "BMP", "TIFF"):
        glb = write_glb(
            [Part(CORNERS, FACE, UV, None, Material(texture=Texture(image([(200, 10, 10)] * 4, kind=kind))))]
        )
        assert b"\x89PNG" in glb
        assert np.abs(np.array(colours(MeshFile(glb, "glb"))) - [200, 10, 10]).max() <= 8


def test_a_file_without_a_part_is_a_glb_without_a_mesh() -> None:
    glb = write_glb([Part(CORNERS, FACE[:0])])
    assert header_of(glb)["scenes"] == [{}]
    with pytest.raises(ValueError, match="it holds no geometry"):
        read(MeshFile(glb, "glb"))


def test_a_mesh_has_vertex_colours_only_where_all_its_parts_have_some() -> None:
    painted = Part(CORNERS, FACE, colours_N4=np.full((3, 4), 200, np.uint8))
    assert Mesh.from_glb(write_glb([painted, painted])).colours_N4 is not None
    assert Mesh.from_glb(write_glb([painted, Part(CORNERS, FACE)])).colours_N4 is None

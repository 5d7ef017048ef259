"""views: what it reads, what it writes, and that its cameras and depths are true."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image
from pydantic import ValidationError

from models.cameras import Camera
from models.errors import BadInput
from models.geometry import FRAME, Mesh
from models.views import decode_rgba, encode_png
from tasks.collections.records import FileEntry, Record
from tasks.engine.stage import Context, Item, Output
from tasks.stages.views import Views, ViewsParams, camera_set

RADIUS = 0.4
PARAMS = ViewsParams(size_px=64, num_ring=3)
NAMED = ["front", "left", "back", "right"]


def ingested(files: dict[str, bytes]) -> Item:
    record = Record("a" * 16, "key", {name: FileEntry("0" * 64, len(data)) for name, data in files.items()})
    return Item(record.id, "key", "thing", {"ingest": record}, lambda stage, item_id, name: files[name])


def run(files: dict[str, bytes], params: ViewsParams = PARAMS) -> Output:
    chosen: Any = SimpleNamespace(stage=lambda name: params)
    context = Context(Path(), chosen, "cpu", 1, Path(), {}, lambda text: None)
    return Views().start(context)(ingested(files))


@pytest.fixture(scope="module")
def sphere_glb() -> bytes:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=RADIUS)
    return Mesh(np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int32)).to_glb()


@pytest.fixture(scope="module")
def sphere(sphere_glb: bytes) -> Output:
    return run({"mesh.glb": sphere_glb})


def test_a_mesh_gets_the_named_views_and_the_ring(sphere):
    names = [*NAMED, "ring_00", "ring_01", "ring_02"]
    assert sphere.facts == {"views": names, "cameras": True}
    assert sphere.frame == FRAME
    images = {f"{kind}.{name}.png" for name in names for kind in ("view", "depth")}
    assert set(sphere.files) == {"cameras.json", *images}


def test_depth_unprojects_onto_the_surface(sphere):
    layout = json.loads(sphere.files["cameras.json"])
    assert layout["size_px"] == 64
    for name, value in layout["views"].items():
        camera = Camera.from_json(value)
        stored = np.asarray(Image.open(io.BytesIO(sphere.files[f"depth.{name}.png"])))
        assert stored.dtype == np.uint16
        rows, columns = np.nonzero(stored)
        depth = stored[rows, columns] * layout["depth_scale"]
        rays = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1) @ np.linalg.inv(camera.intrinsics_33).T
        world = (rays * depth[:, None] - camera.world_to_camera_44[:3, 3]) @ camera.world_to_camera_44[:3, :3]
        inner = np.linalg.norm(rays[:, :2], axis=1) < 0.5 * RADIUS / 2.7
        np.testing.assert_allclose(np.linalg.norm(world[inner], axis=1), RADIUS, atol=0.01)


def test_depth_and_alpha_show_the_same_object(sphere):
    for name in NAMED:
        alpha = decode_rgba(sphere.files[f"view.{name}.png"])[..., 3]
        depth = np.asarray(Image.open(io.BytesIO(sphere.files[f"depth.{name}.png"])))
        assert not depth[alpha == 0].any()
        assert depth[alpha == 255].all()


def test_equal_meshes_give_equal_bytes(sphere, sphere_glb):
    assert run({"mesh.glb": sphere_glb}) == sphere


def test_photos_are_taken_as_they_are():
    photo = encode_png(np.full((5, 7, 4), 9, np.uint8))
    output = run({"photo.front.png": photo, "photo.left.png": photo})
    assert output.files == {"view.front.png": photo, "view.left.png": photo}
    assert output.facts == {"views": ["front", "left"], "cameras": False}


def test_only_the_mesh_or_the_photos_are_read():
    reads = lambda *names: Views().reads(ingested(dict.fromkeys(names, b"")).records, None)  # noqa: E731
    assert reads("mesh.glb", "notes.txt") == [("ingest", "mesh.glb")]
    assert reads("photo.left.png", "photo.front.png", "notes.txt") == [
        ("ingest", "photo.front.png"),
        ("ingest", "photo.left.png"),
    ]


def test_the_ring_lies_between_the_named_cameras_at_its_elevations():
    cameras = camera_set(ViewsParams(num_ring=4, ring_elevations_deg=(60.0, -30.0)))
    centres = {name: camera.centre_3 for name, camera in cameras.items()}
    np.testing.assert_allclose([np.linalg.norm(centre) for centre in centres.values()], 2.7, atol=1e-9)
    elevations = [np.degrees(np.arcsin(centres[f"ring_{index:02d}"][1] / 2.7)) for index in range(4)]
    np.testing.assert_allclose(elevations, [60, -30, 60, -30], atol=1e-9)
    assert centres["ring_00"][0] == pytest.approx(centres["ring_00"][2])


def test_a_lens_too_narrow_for_the_box_is_refused():
    with pytest.raises(ValidationError, match=r"may need a fov_deg of 37\.4"):
        ViewsParams(fov_deg=30)


def test_a_mesh_out_of_sight_is_bad_input():
    far = Mesh(np.array([[9, 9, 9], [9.1, 9, 9], [9, 9.1, 9]], np.float32), np.array([[0, 1, 2]], np.int32))
    with pytest.raises(BadInput, match="cannot be seen from front"):
        run({"mesh.glb": far.to_glb()})


def test_an_item_without_mesh_or_photos_is_bad_input():
    with pytest.raises(BadInput, match=r"neither mesh\.glb nor photos"):
        run({"notes.txt": b""})

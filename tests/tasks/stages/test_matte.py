import json

import numpy as np
import pytest

from models.cameras import Camera, orbit_camera
from models.errors import BadInput, EmptyOutput, Unavailable
from models.onnx import Machine
from models.views import decode_rgba, encode_png
from tasks.collections.records import Record
from tasks.engine.stage import Item
from tasks.params import Params
from tasks.stages.matte import Cutter, Matte, matte_item
from tests.support import make_item


class BrightnessMatte:
    """Stands for a network: what is bright is the object."""

    id = "stub:bright"
    licence = "CC0"

    def __init__(self):
        self.calls = 0

    def alpha(self, rgb_HW3):
        self.calls += 1
        return np.where(rgb_HW3.max(axis=-1) > 127, 255, 0).astype(np.uint8)


@pytest.fixture
def cutter(tmp_path):
    return Cutter(Params({"matte": {"size_px": 64}}), Machine(tmp_path))


@pytest.fixture
def bright(cutter, monkeypatch):
    matte = BrightnessMatte()
    monkeypatch.setattr("models.mattes.rembg.create", lambda params, machine: matte)
    return matte


def item_of(files: dict[str, bytes]) -> Item:
    return make_item({"views": files})


def square_object(side: int = 100, *, background: int = 0, alpha: bool = True) -> np.ndarray:
    image = np.full((side, side, 4), background, np.uint8)
    image[30:60, 40:60] = (250, 120, 60, 255)
    if not alpha:
        image[..., 3] = 255
    return image


def rendered_files(num_views: int = 2) -> dict[str, bytes]:
    cameras = {f"ring_{i:02d}": orbit_camera(90 * i, 10, 2.7, 40, 100) for i in range(num_views)}
    views = {name: camera.to_json() for name, camera in cameras.items()}
    files = {f"view.{name}.png": encode_png(square_object()) for name in views}
    layout = {"size_px": 100, "depth_scale": 0.5, "views": views}
    return files | {"cameras.json": json.dumps(layout).encode(), "depth.ring_00.png": b"not read"}


def test_a_photo_that_brings_its_mask_keeps_it(cutter, bright):
    output = matte_item(item_of({"view.front.png": encode_png(square_object())}), cutter)
    assert bright.calls == 0
    assert output.facts["matte"] == "alpha" and output.facts["licence"] is None
    image = decode_rgba(output.files["view.front.png"])
    assert image.shape == (64, 64, 4)
    assert json.loads(output.files["crops.json"]) == {"front": [32, 27, 36]}
    assert "cameras.json" not in output.files


def test_an_opaque_photo_goes_through_the_matte_whose_licence_is_noted(cutter, bright):
    output = matte_item(item_of({"view.front.png": encode_png(square_object(background=9, alpha=False))}), cutter)
    assert (output.facts["matte"], output.facts["licence"]) == ("stub:bright", "CC0")
    alpha = decode_rgba(output.files["view.front.png"])[..., 3]
    assert alpha[32, 32] == 255 and alpha[0, 0] == 0


def test_one_transparent_pixel_is_no_mask(cutter, bright):
    image = square_object(background=9, alpha=False)
    image[0, 0, 3] = 0
    assert cutter.cut(image).matte == "stub:bright"


def test_a_rendered_view_keeps_its_alpha_though_it_fills_the_frame(cutter, bright):
    assert cutter.cut(np.full((50, 50, 4), 255, np.uint8), rendered=True).matte == "alpha"


def test_a_transparent_photo_is_a_bad_input(cutter):
    with pytest.raises(BadInput, match="view front: nothing to see: every pixel is transparent"):
        matte_item(item_of({"view.front.png": encode_png(np.zeros((20, 20, 4), np.uint8))}), cutter)


def test_a_photo_without_object_is_an_empty_output(cutter, bright):
    with pytest.raises(EmptyOutput, match="stub:bright found no object"):
        cutter.cut(np.dstack([np.zeros((20, 20, 3), np.uint8), np.full((20, 20), 255, np.uint8)]))


def test_an_empty_view_is_left_out_and_named(cutter):
    files = rendered_files() | {"view.ring_01.png": encode_png(np.zeros((100, 100, 4), np.uint8))}
    output = matte_item(item_of(files), cutter)
    assert (output.facts["views"], output.facts["empty"]) == (["ring_00"], ["ring_01"])
    assert set(json.loads(output.files["cameras.json"])["views"]) == {"ring_00"}


def test_cameras_project_onto_the_cropped_views(cutter):
    output = matte_item(item_of(rendered_files()), cutter)
    layout = json.loads(output.files["cameras.json"])
    left, top, side = json.loads(output.files["crops.json"])["ring_00"]
    assert (layout["size_px"], layout["depth_scale"]) == (64, 0.5)
    point = np.array([[0.1, -0.2, 0.3]])
    (before,), _ = orbit_camera(0, 10, 2.7, 40, 100).project(point)
    (after,), _ = Camera.from_json(layout["views"]["ring_00"]).project(point)
    np.testing.assert_allclose(after, (before - (left, top)) * 64 / side)


def test_depth_is_not_read():
    files = rendered_files()
    records = item_of(files).records
    assert ("views", "depth.ring_00.png") not in Matte().reads(records, Params({}))
    assert ("views", "cameras.json") in Matte().reads(records, Params({}))


def test_equal_inputs_give_equal_bytes(cutter):
    assert matte_item(item_of(rendered_files()), cutter) == matte_item(item_of(rendered_files()), cutter)


def test_an_unavailable_matte_blocks_opaque_photos_only_and_is_tried_once(cutter, monkeypatch):
    calls = []

    def create(params, machine):
        calls.append(params.model)
        raise Unavailable("the matte model u2netp is not here")

    monkeypatch.setattr("models.mattes.rembg.create", create)
    photo = item_of({"view.front.png": encode_png(square_object(alpha=False))})
    for _ in range(2):
        with pytest.raises(Unavailable, match="u2netp is not here"):
            matte_item(photo, cutter)
    assert matte_item(item_of(rendered_files()), cutter).facts["matte"] == "alpha"
    assert calls == ["u2netp"]


def test_metrics_count_items_by_matte():
    records = [Record(str(i), "k", {}, facts={"matte": name}) for i, name in enumerate(("b", "alpha", "alpha"))]
    assert Matte().metrics(records, None) == {"mattes": {"alpha": 2, "b": 1}}

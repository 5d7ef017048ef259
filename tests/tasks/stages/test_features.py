import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from models.encoders import dct
from models.errors import Unavailable
from models.needs import TOKENS, VIEWS, Needs
from models.onnx import Machine
from models.views import encode_png
from tasks.engine.stage import Item, Output
from tasks.params import Params
from tasks.stages.features import GRIDS, Features
from tasks.stages.prepare import prepare_images
from tests.support import make_item, start

SMALL = {"encoders": {"dct": {"grid": 4}}, "depths": {"rendered": {"size_px": 16}}, "matte": {"size_px": 56}}
RNG = np.random.default_rng(3)
CROPPED = {name: RNG.integers(0, 256, (56, 56, 4), np.uint8) for name in ("front", "left", "ring_00")}


def rendered_item(views=("front", "left", "ring_00"), *, with_depth: bool = True) -> Item:
    depth = np.zeros((64, 64), np.uint16)
    depth[8:40, 4:36] = 500
    matte = {f"view.{name}.png": encode_png(CROPPED[name]) for name in views}
    matte["crops.json"] = json.dumps({name: [4, 8, 32] for name in views}).encode()
    rendered = {f"depth.{name}.png": encode_png(depth) for name in views}
    rendered["cameras.json"] = json.dumps({"depth_scale": 0.25, "size_px": 64, "views": {}}).encode()
    return make_item({"matte": matte, "views": rendered if with_depth else {}})


def run(item: Item, workspace: Path, params: Any = SMALL) -> Output:
    return start(Features(), workspace, params)(item)


def test_declared_views_are_encoded_in_their_order_and_ring_views_are_not(tmp_path):
    output = run(rendered_item(), tmp_path)
    grids = load(output.files[GRIDS])
    assert set(grids) == {"tokens.front", "tokens.left", "depth.front", "depth.left"}
    assert output.facts["views"] == ["front", "left"]
    expected = dct.DctEncoder(4).encode(CROPPED["left"][None])[0]
    np.testing.assert_array_equal(grids["tokens.left"], expected)
    assert (output.facts["encoder"], output.facts["channels"], output.facts["grid"]) == ("dct-14-96x4", 384, [4, 4])


def test_rendered_depth_comes_cropped_with_its_scale(tmp_path):
    output = run(rendered_item(), tmp_path)
    depth = load(output.files[GRIDS])["depth.front"]
    assert depth.shape == (16, 16) and depth.dtype == np.uint16 and (depth == 500).all()
    assert (output.facts["depth"], output.facts["depth_scale"]) == ("rendered", 0.25)


def test_an_item_without_rendered_depth_has_none(tmp_path):
    output = run(rendered_item(with_depth=False), tmp_path)
    assert set(load(output.files[GRIDS])) == {"tokens.front", "tokens.left"}
    assert output.facts["depth"] is None and output.facts["depth_scale"] is None


def test_reads_name_exactly_what_is_used():
    item = rendered_item()
    assert Features().reads(item.records, Params(SMALL)) == [
        ("matte", "view.front.png"),
        ("matte", "view.left.png"),
        ("matte", "crops.json"),
        ("views", "cameras.json"),
        ("views", "depth.front.png"),
        ("views", "depth.left.png"),
    ]
    without = Params(SMALL | {"features": {"depth": None}})
    assert Features().reads(item.records, without) == [("matte", "view.front.png"), ("matte", "view.left.png")]


def test_an_item_without_declared_views_is_skipped_with_the_reason():
    reason = Features().skip(rendered_item(("ring_00",)).records, Params(SMALL))
    assert reason == "it has none of the views front, left, back, right"


def test_equal_inputs_give_equal_bytes(tmp_path):
    assert run(rendered_item(), tmp_path).files[GRIDS] == run(rendered_item(), tmp_path).files[GRIDS]


def test_dinov2_without_a_model_says_how_to_make_one(tmp_path):
    with pytest.raises(Unavailable, match="lostwax export-encoder dinov2"):
        run(rendered_item(), tmp_path, SMALL | {"features": {"encoder": "dinov2"}})


def test_generate_prepares_an_image_as_the_stages_do(tmp_path):
    image = np.zeros((80, 80, 4), np.uint8)
    image[20:50, 30:60] = (10, 200, 90, 255)
    forms = {"tokens": {"encoder": "dct-14-96x4"}, "views": {}}
    images = {"left": image, "front": image}
    prepared = prepare_images(images, Params(SMALL), Machine(tmp_path), Needs((TOKENS, VIEWS)), forms)
    views, grids = prepared(VIEWS), prepared(TOKENS)
    assert views.names == tuple(grids) == ("front", "left")
    encoded_VHWC = dct.DctEncoder(4).encode(views.rgba_VHW4)
    np.testing.assert_array_equal(np.stack(list(grids.values())), encoded_VHWC)


def test_a_photo_is_not_prepared_with_another_encoder_than_the_student_was_trained_on(tmp_path):
    image = np.zeros((80, 80, 4), np.uint8)
    image[20:50, 30:60] = 255
    forms = {"tokens": {"encoder": "dct-14-96x9"}}
    with pytest.raises(Unavailable, match="trained on grids of dct-14-96x9; here is dct-14-96x4"):
        prepare_images({"front": image}, Params(SMALL), Machine(tmp_path), Needs((TOKENS,)), forms)


def test_generate_names_the_declared_views(tmp_path):
    with pytest.raises(ValueError, match=r"no view 'top'.*front, left, back, right"):
        prepare_images({"top": np.zeros((8, 8, 4), np.uint8)}, Params(SMALL), Machine(tmp_path), Needs((TOKENS,)), {})


def test_planning_imports_nothing_heavy():
    heavy = "torch onnxruntime rembg PIL safetensors scipy trimesh transformers onnx"
    code = (
        "import sys; from models import plugins; import tasks.stages.matte, tasks.stages.features\n"
        "for family in ('mattes', 'encoders', 'depths'):\n"
        "    [plugins.load(family, name) for name in plugins.known(family)]\n"
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

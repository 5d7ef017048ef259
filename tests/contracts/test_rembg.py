"""What is relied on in rembg: where it looks for models, what it publishes, and how it runs a custom ONNX file."""

import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.errors import Unavailable
from models.mattes import rembg as plugin
from models.mattes.rembg.published import PUBLISHED, RELEASE, places
from models.onnx import Machine
from models.views import decode_rgba, encode_png
from tasks.params import Params
from tasks.stages.matte import Cutter, matte_item
from tests.support import make_item


@pytest.fixture
def threshold_model(tmp_path):
    """A network of three nodes: 1 where the red channel, as rembg normalises it, is above the mean, else 0."""
    nodes = [
        helper.make_node("Slice", ["pixels", "zero", "one", "axis"], ["red"]),
        helper.make_node("Greater", ["red", "threshold"], ["above"]),
        helper.make_node("Cast", ["above"], ["mask"], to=TensorProto.FLOAT),
    ]
    constants = [helper.make_tensor(name, TensorProto.INT64, [1], [i]) for i, name in enumerate(("zero", "one"))]
    constants += [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("threshold", TensorProto.FLOAT, [], [0.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "threshold",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 320, 320])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, 320, 320])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path = tmp_path / "weights" / "threshold.onnx"
    path.parent.mkdir()
    onnx.save(model, str(path))
    return path


def photo() -> np.ndarray:
    image = np.full((320, 320, 3), 20, np.uint8)
    image[100:180, 60:260] = 240
    return image


def test_a_custom_model_anywhere_on_disk_gives_its_exact_mask(threshold_model, tmp_path, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", "/nowhere")
    params = plugin.Params(model="u2net_custom", path="weights/threshold.onnx")
    matte = plugin.create(params, Machine(tmp_path))
    np.testing.assert_array_equal(matte.alpha(photo()), np.where(photo()[..., 0] > 127, 255, 0))
    assert matte.id == "rembg:u2net_custom"
    assert os.environ["U2NET_HOME"] == "/nowhere"


def test_a_flat_answer_is_an_empty_mask(threshold_model, tmp_path):
    matte = plugin.create(plugin.Params(model="u2net_custom", path=threshold_model), Machine(tmp_path))
    assert not matte.alpha(np.full((320, 320, 3), 200, np.uint8)).any()


def test_the_stage_cuts_an_opaque_photo_with_it(threshold_model, tmp_path):
    params = Params({"mattes": {"rembg": {"model": "u2net_custom", "path": "weights/threshold.onnx"}}})
    item = make_item({"views": {"view.front.png": encode_png(photo())}})
    output = matte_item(item, Cutter(params, Machine(tmp_path)))
    assert output.facts["matte"] == "rembg:u2net_custom"
    assert json.loads(output.files["crops.json"]) == {"front": [40, 20, 240]}
    image = decode_rgba(output.files["view.front.png"])
    assert image[112, 112].tolist() == [240, 240, 240, 255]
    assert image[..., 3].mean() / 255 == pytest.approx(200 * 80 / 240**2, abs=2e-3)


def test_a_file_that_is_no_model_is_unavailable(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"hello")
    with pytest.raises(Unavailable, match="not a usable ONNX model"):
        plugin.create(plugin.Params(model="dis_custom", path=path), Machine(tmp_path))


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    """No model on this machine, as far as rembg can see."""
    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_names_urls_and_digests_are_those_of_the_library(name, empty_home, monkeypatch):
    import pooch
    from rembg.sessions import sessions

    asked = {}

    def retrieve(url, known_hash, fname, path, **others):
        asked.update(url=url, known_hash=known_hash, place=os.path.join(path, fname))  # noqa: PTH118

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    sessions[name].download_models()
    published = PUBLISHED[name]
    assert asked == {
        "url": f"{RELEASE}/{published.asset}",
        "known_hash": published.checksum,
        "place": str(places(name)[0]),
    }


@pytest.mark.parametrize("variable", ["HOME", "U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"])
@pytest.mark.parametrize("place", [0, 1])
def test_models_are_looked_for_where_the_library_looks(variable, place, empty_home, monkeypatch):
    from rembg.sessions.u2netp import U2netpSession

    monkeypatch.setenv(variable, str(empty_home / "chosen"))
    path = places("u2netp")[place]
    path.parent.mkdir(parents=True)
    path.touch()
    assert U2netpSession.resolve_existing("u2netp.onnx") == str(path)


def test_u2netp_cuts_a_real_photo_out(tmp_path):
    """The espresso cup that scikit-image ships lies on its saucer in the middle of a table."""
    from skimage import data

    if not any(path.is_file() for path in places("u2netp")):
        pytest.skip("the matte model is not on this machine: run `lostwax fetch-model u2netp`")
    matte = plugin.create(plugin.Params(download=False), Machine(tmp_path))
    alpha_HW = matte.alpha(data.coffee())
    assert matte.id == "rembg:u2netp"
    assert matte.licence.startswith("Apache-2.0")
    assert alpha_HW[200, 270] > 250
    assert alpha_HW[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 5
    assert 0.45 < (alpha_HW > 127).mean() < 0.5

"""The real transformers classes with tiny random weights, exported to ONNX and run as the plug-ins run them."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from models.crop import on_grey
from models.depths import depth_anything
from models.encoders import dinov2
from models.errors import Unavailable
from models.export_encoder import IMAGENET_MEAN, IMAGENET_STD, Export, export_encoder
from models.onnx import Machine
from models.views import encode_png
from tasks.stages.features import GRIDS, Features
from tests.support import make_item, start

transformers = pytest.importorskip("transformers")
SIZE_PX, PATCH_PX, CHANNELS = 56, 14, 48
TINY = {
    "hidden_size": CHANNELS,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": PATCH_PX,
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """Folders `plain`, `registers` and `depth`. Trained for 28 px, so that 56 px needs interpolated positions."""
    import torch

    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    transformers.Dinov2Model(transformers.Dinov2Config(**TINY)).save_pretrained(folder / "plain")
    registers = transformers.Dinov2WithRegistersConfig(**TINY, num_register_tokens=4)
    transformers.Dinov2WithRegistersModel(registers).save_pretrained(folder / "registers")
    backbone = transformers.Dinov2Config(
        **TINY | {"num_hidden_layers": 4}, out_indices=[1, 2, 3, 4], reshape_hidden_states=False
    )
    depth = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=CHANNELS,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
    )
    transformers.DepthAnythingForDepthEstimation(depth).save_pretrained(folder / "depth")
    return folder


@pytest.fixture(scope="module", params=[("plain", 1), ("registers", 5)], ids=["cls", "cls+registers"])
def exported(request, checkpoints) -> tuple[Export, Path, int]:
    name, num_prefix_tokens = request.param
    output = checkpoints / f"{name}.onnx"
    export = export_encoder("dinov2", str(checkpoints / name), output, SIZE_PX)
    return export, checkpoints / name, num_prefix_tokens


def views(num: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (num, SIZE_PX, SIZE_PX, 4), np.uint8)


def test_the_export_agrees_with_torch(exported):
    export, _, _ = exported
    assert export.max_difference < 1e-4
    assert str(export).startswith(f"{export.path}: {export.description.id} from ")
    assert export.path.is_file() and not list(export.path.parent.glob("*.part*"))


def test_the_file_describes_itself(exported):
    export, checkpoint, num_prefix_tokens = exported
    description = export.description
    assert description.id.startswith(f"dinov2-{CHANNELS}x2-{SIZE_PX}px-")
    assert (description.channels, description.patch_px) == (CHANNELS, PATCH_PX)
    assert (description.num_prefix_tokens, description.checkpoint) == (num_prefix_tokens, checkpoint.name)


def test_tokens_are_the_original_models_patches_without_prefix(exported):
    import torch

    export, checkpoint, num_prefix_tokens = exported
    encoder = dinov2.create(dinov2.Params(path=export.path), Machine(Path()))
    rgba = views(3)
    tokens = encoder.encode(rgba)
    pixels = (on_grey(rgba, 0) - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    with torch.no_grad():
        model = transformers.AutoModel.from_pretrained(checkpoint).eval()
        expected = model(torch.from_numpy(pixels).permute(0, 3, 1, 2)).last_hidden_state.numpy()
    assert expected.shape[1] == num_prefix_tokens + 16
    assert tokens.shape == (3, 4, 4, CHANNELS) and tokens.dtype == np.float16
    np.testing.assert_allclose(tokens.reshape(3, 16, CHANNELS), expected[:, num_prefix_tokens:], atol=2e-3, rtol=2e-3)


def test_the_stage_writes_them_and_records_what_was_dropped(exported, tmp_path):
    export, _, num_prefix_tokens = exported
    (tmp_path / "tiny.onnx").write_bytes(export.path.read_bytes())
    images = views(2)
    files = {f"view.{name}.png": encode_png(image) for name, image in zip(("front", "back"), images, strict=True)}
    item = make_item({"matte": files | {"crops.json": json.dumps({}).encode()}, "views": {}})
    params = {"features": {"encoder": "dinov2"}, "encoders": {"dinov2": {"path": "tiny.onnx"}}}
    output = start(Features(), tmp_path, params)(item)
    assert output.facts["encoder"] == export.description.id
    assert (output.facts["grid"], output.facts["channels"]) == ([4, 4], CHANNELS)
    assert output.facts["prefix_tokens_dropped"] == num_prefix_tokens
    grids = load(output.files[GRIDS])
    encoder = dinov2.create(dinov2.Params(path=export.path), Machine(Path()))
    np.testing.assert_array_equal(grids["tokens.back"], encoder.encode(images)[1])


def test_depth_anything_orders_the_object_and_leaves_the_rest_zero(checkpoints):
    output = checkpoints / "depth.onnx"
    export = export_encoder("depth_anything", str(checkpoints / "depth"), output, SIZE_PX)
    assert export.max_difference < 1e-4
    rgba = views(1)[0]
    rgba[..., 3] = 0
    rgba[14:42, 14:42, 3] = 255
    depth = depth_anything.create(depth_anything.Params(path=output, size_px=SIZE_PX), Machine(Path()))
    found = depth.estimate(rgba, None)
    assert found.shape == (SIZE_PX, SIZE_PX) and found.dtype == np.uint16
    np.testing.assert_array_equal(found > 0, rgba[..., 3] > 0)
    assert found.max() == 65535


def test_a_model_of_the_other_family_is_refused(exported):
    export, _, _ = exported
    with pytest.raises(ValueError, match="is a dinov2 model, not depth_anything"):
        depth_anything.create(depth_anything.Params(path=export.path), Machine(Path()))


def test_a_checkpoint_of_another_kind_is_refused(checkpoints, tmp_path):
    with pytest.raises(ValueError, match="is a depth_anything checkpoint; dinov2 exports dinov2 or"):
        export_encoder("dinov2", str(checkpoints / "depth"), tmp_path / "x.onnx", SIZE_PX)


def test_an_image_size_off_the_patch_grid_is_refused(checkpoints, tmp_path):
    with pytest.raises(ValueError, match="50 px is no multiple of the patch size 14 px"):
        export_encoder("dinov2", str(checkpoints / "plain"), tmp_path / "x.onnx", 50)


def test_a_checkpoint_out_of_reach_is_unavailable(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", no_network)
    with pytest.raises(Unavailable, match="cannot read the checkpoint facebook/dinov2-small: We couldn't connect"):
        export_encoder("dinov2", "facebook/dinov2-small", tmp_path / "x.onnx")


def test_pickled_weights_are_refused(checkpoints, tmp_path):
    import torch

    (tmp_path / "config.json").write_bytes((checkpoints / "plain" / "config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Unavailable, match="cannot read the weights"):
        export_encoder("dinov2", str(tmp_path), tmp_path / "x.onnx", SIZE_PX)


def test_an_unknown_family_lists_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"unknown encoder family 'clip'; there are: dinov2, depth_anything"):
        export_encoder("clip", "openai/clip", tmp_path / "x.onnx")

"""The real hy3dgen with tiny random weights on the CPU, end to end through its host process.

Real: hy3dgen 2.0.2 (its from_pretrained, image processors, conditioners, DiT, VAE, marching cubes), the host, the
messages. Not real: the weights, so the shapes mean nothing.
"""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from models.errors import EmptyOutput, ItemFailed, Unavailable, failure_class
from models.hosting.runtimes import hunyuan3d as runtime
from models.teachers import Site, hunyuan3d
from models.topology import volume
from models.views import Views

IMAGE_PX = 28
LATENTS, EMBEDDING, WIDTH = 16, 8, 32
DINO = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": IMAGE_PX, "patch_size": 14}
DTYPE = {"preset": "fast", "steps": 2, "octree_resolution": 16, "dtype": "float32", "accept_licence": True}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder laid out as hy3dgen wants it, with the mini and the multi-view variant."""
    from hy3dgen.shapegen import pipelines
    from safetensors.torch import save_file
    from torch import manual_seed

    root = tmp_path_factory.mktemp("weights")
    for variant, encoder, processor in (
        (hunyuan3d.Variant.MINI, "DinoImageEncoder", "ImageProcessorV2"),
        (hunyuan3d.Variant.MV, "DinoImageEncoderMV", "MVImageProcessorV2"),
    ):
        folder = root / hunyuan3d.PUBLISHED[variant][1]
        folder.mkdir()
        config = tiny_config(encoder, processor)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        manual_seed(0)
        state = {}
        for name in ("model", "vae", "conditioner"):
            part = pipelines.instantiate_from_config(config[name])
            if name == "vae":
                part.geo_decoder.output_proj.weight.data.mul_(50)  # so that the volume has both signs
                part.geo_decoder.output_proj.bias.data.zero_()
            state |= {f"{name}.{key}": value.contiguous() for key, value in part.state_dict().items()}
        save_file(state, folder / "model.fp16.safetensors")
    return root


def tiny_config(encoder: str, processor: str) -> dict:
    shapegen = "hy3dgen.shapegen"
    denoiser = {"hidden_size": WIDTH, "num_heads": 2, "axes_dim": [WIDTH // 2], "depth": 1, "depth_single_blocks": 1}
    main = {"type": encoder, "kwargs": {"config": DINO, "use_cls_token": True, "image_size": IMAGE_PX}}
    return {
        "model": {
            "target": f"{shapegen}.models.Hunyuan3DDiT",
            "params": {**denoiser, "in_channels": EMBEDDING, "context_in_dim": DINO["hidden_size"]},
        },
        "vae": {
            "target": f"{shapegen}.models.ShapeVAE",
            "params": {
                "num_latents": LATENTS,
                "embed_dim": EMBEDDING,
                "width": WIDTH,
                "heads": 2,
                "num_decoder_layers": 1,
            },
        },
        "conditioner": {
            "target": f"{shapegen}.models.SingleImageEncoder",
            "params": {"main_image_encoder": main},
        },
        "image_processor": {
            "target": f"{shapegen}.preprocessors.{processor}",
            "params": {"size": IMAGE_PX},
        },
        "scheduler": {
            "target": f"{shapegen}.schedulers.FlowMatchEulerDiscreteScheduler",
            "params": {"num_train_timesteps": 1000},
        },
    }


@pytest.fixture(scope="module")
def mini(weights, tmp_path_factory):
    teacher = hunyuan3d.create(params(weights, variant="mini"), Site(folder=tmp_path_factory.mktemp("mini")))
    yield teacher
    teacher.close()


@pytest.fixture(scope="module")
def mv(weights, tmp_path_factory):
    teacher = hunyuan3d.create(params(weights, variant="mv"), Site(folder=tmp_path_factory.mktemp("mv")))
    yield teacher
    teacher.close()


def params(weights, **block) -> hunyuan3d.Params:
    return hunyuan3d.Params(**{**DTYPE, "weights": str(weights), **block})


def views(*names: str) -> Views:
    """Discs of another size and colour for each view, on a transparent ground."""
    y, x = np.mgrid[:64, :64] - 31.5
    rgba_VHW4 = np.zeros((len(names), 64, 64, 4), np.uint8)
    for index, name in enumerate(names):
        inside_HW = np.hypot(x, y) < 14 + 3 * index
        rgba_VHW4[index][inside_HW] = (40 * len(name) % 256, 90 * index % 256, 200, 255)
    return Views(names, rgba_VHW4)


def test_one_image_becomes_a_mesh_in_the_canonical_frame_with_its_figures(mini):
    shape = mini.generate(views("front", "left"), seed=1)
    vertices_N3 = shape.mesh.vertices_N3
    assert vertices_N3.dtype == np.float32
    assert shape.mesh.faces_F3.dtype == np.int32
    assert len(shape.mesh.faces_F3) > 100
    assert np.ptp(vertices_N3, axis=0).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(vertices_N3.min(axis=0) + vertices_N3.max(axis=0), 0, atol=1e-6)
    assert shape.quality == {"variant": "mini", "steps": 2, "octree_resolution": 16, "teacher_views": ["front"]}
    assert shape.rung == 0
    assert shape.measured["seconds"] > 0
    assert shape.measured["peak_rss_mb"] > 100


def test_equal_seeds_give_equal_meshes_and_others_do_not(mini):
    first, second, other = (mini.generate(views("front"), seed=seed).mesh for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.vertices_N3, second.vertices_N3)
    np.testing.assert_array_equal(first.faces_F3, second.faces_F3)
    assert first.vertices_N3.shape != other.vertices_N3.shape or not np.array_equal(
        first.vertices_N3, other.vertices_N3
    )


def test_a_photo_of_another_name_counts_as_the_front(mini):
    front = views("front")
    named, unnamed = (mini.generate(replace(front, names=(name,)), seed=2) for name in ("front", "photo"))
    assert unnamed.quality["teacher_views"] == ["front"]
    np.testing.assert_array_equal(unnamed.mesh.vertices_N3, named.mesh.vertices_N3)


def test_several_views_are_taken_by_name_and_unknown_names_are_left_out(mv):
    """An unknown name would be a KeyError in hy3dgen's processor."""
    shape = mv.generate(views("right", "ring_00", "front", "back"), seed=1)
    assert shape.quality["teacher_views"] == ["front", "back", "right"]
    assert shape.quality["variant"] == "mv"
    assert len(shape.mesh.faces_F3) > 100


def test_further_views_change_the_mesh(mv):
    one, two = (mv.generate(views(*names), seed=1).mesh for names in (("front",), ("front", "left")))
    assert not np.array_equal(one.vertices_N3, two.vertices_N3)


def test_none_in_place_of_a_mesh_is_an_empty_output(mini):
    """Guidance beyond float32 makes every number NaN: there is no surface, and hy3dgen returns [None]."""
    settings = {**mini._settings, "guidance_scale": 1e39}
    chosen = views("front")
    with pytest.raises(ItemFailed, match="hy3dgen found no surface: No surface found") as caught:
        mini._client.generate("nan", chosen.names, chosen.rgba_VHW4, settings, 0)
    assert caught.value.failure_class == "empty_output"
    assert mini.generate(chosen, seed=0).mesh.faces_F3.size  # the host lives on


@pytest.mark.parametrize(
    ("alpha", "text"), [(255, "view 'front' has no background"), (0, "view 'front' shows no object")]
)
def test_opaque_and_empty_images_are_bad_inputs(mini, alpha, text):
    image = views("front")
    image.rgba_VHW4[..., 3] = alpha
    with pytest.raises(ItemFailed, match=text) as caught:
        mini.generate(image, seed=0)
    assert caught.value.failure_class == "bad_input"


def test_memory_that_runs_out_in_surface_extraction_is_told_from_no_surface(monkeypatch):
    """hy3dgen makes None of both."""
    import torch
    from hy3dgen.shapegen.models.autoencoders import SurfaceExtractors
    from hy3dgen.shapegen.models.autoencoders.surface_extractors import measure

    extractor = SurfaceExtractors["mc"]()
    kept = runtime.keep_errors(extractor)
    sampling = {"mc_level": 0.0, "bounds": 1.01, "octree_resolution": 8}
    assert extractor(torch.ones(1, 9, 9, 9), **sampling) == [None]
    assert isinstance(runtime.why_none(kept), EmptyOutput)

    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(measure, "marching_cubes", exhausted)
    assert extractor(torch.zeros(1, 9, 9, 9), **sampling) == [None]
    assert failure_class(runtime.why_none(kept)) == "oom_gpu"
    assert kept == []


def test_axes_and_winding_of_hy3dgens_surfaces_are_ours():
    """A slab longest in x, then y, with a knob at its +x +y +z corner, through hy3dgen's extractor and export."""
    import torch
    from hy3dgen.shapegen.models.autoencoders import SurfaceExtractors
    from hy3dgen.shapegen.pipelines import export_to_trimesh

    logits = torch.full((1, 33, 33, 33), -1.0)  # [x, y, z], positive inside
    logits[0, 4:28, 6:18, 8:11] = 1.0
    logits[0, 24:28, 14:18, 11:14] = 1.0
    outputs = SurfaceExtractors["mc"]()(logits, mc_level=0.0, bounds=1.01, octree_resolution=32)
    [made] = export_to_trimesh(outputs)
    arrays = {"vertices_N3": np.asarray(made.vertices), "faces_F3": np.asarray(made.faces, np.int32)}
    figures = {"steps": 1, "octree_resolution": 32, "views": ["front"]}
    mesh = hunyuan3d.read_answer(arrays, figures, hunyuan3d.Variant.MINI).mesh
    np.testing.assert_allclose(mesh.extents, [1, 0.5, 0.25], atol=1e-3)
    knob_N3 = mesh.vertices_N3[mesh.vertices_N3[:, 2] > 0.05]
    assert len(knob_N3) > 10
    np.testing.assert_allclose(knob_N3.min(axis=0)[:2], [0.5 - 4 / 24, 0.25 - 4 / 24], atol=1e-3)  # not mirrored
    assert volume(mesh) == pytest.approx((24 * 12 * 3 + 4 * 4 * 3) / 24**3, rel=0.05)  # outward: it is positive


def test_missing_weights_name_the_folder_and_how_to_fetch_them(tmp_path, weights):
    with pytest.raises(Unavailable, match=r"no Hunyuan3D weights at .*none.hunyuan3d-dit-v2-mini: .*hf download"):
        hunyuan3d.create(params(tmp_path / "none", variant="mini"), Site(folder=tmp_path))
    half = tmp_path / "half" / "hunyuan3d-dit-v2-mini"
    half.mkdir(parents=True)
    (half / "config.yaml").touch()
    with pytest.raises(Unavailable, match=r"hunyuan3d-dit-v2-mini lacks model.fp16.safetensors"):
        runtime._check_files(half, str(half.parent))


def test_without_acceptance_it_does_not_start_and_says_what_the_licence_bars(tmp_path, weights):
    expected = r"European Union, United Kingdom and South Korea.*improve any other AI model.*accept_licence: true"
    with pytest.raises(Unavailable, match=expected):
        hunyuan3d.create(params(weights, accept_licence=False), Site(folder=tmp_path))


def test_the_licence_goes_with_the_teacher(mini):
    assert mini.licence == hunyuan3d.LICENCE
    assert "European Union" in mini.licence

"""TRELLIS through its host process: against a stand-in, and against its own code where $TRELLIS_ROOT names a checkout.

The stand-in (standins/trellis) has TRELLIS's staged interface and its tensors' shapes, and a known object instead of
networks. It is no TRELLIS: that the real code agrees with it is what the `real` cases are for. Those run in
$TRELLIS_PYTHON (default: this interpreter) with $TRELLIS_WEIGHTS, a folder or a hub id. Without it they make tiny
random weights for the real networks and replace DINOv2 by a random projection; without CUDA they also lay on the CPU
what TRELLIS wants on the GPU, and replace the compiled packages that are missing there (standins/on_cpu).
"""

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from models.errors import EmptyOutput, ItemFailed, Unavailable
from models.hosting.runtimes import trellis as runtime
from models.normalise import TO_Y_UP
from models.teachers import Site, trellis
from models.topology import volume
from models.views import Views

STANDINS = Path(__file__).parent / "standins"
CODES = ["stand-in", *(["real"] if "TRELLIS_ROOT" in os.environ else [])]


@pytest.fixture(scope="module", params=CODES)
def code(request, tmp_path_factory) -> SimpleNamespace:
    """block: the params of a teacher that runs this code; device."""
    folder = tmp_path_factory.mktemp("trellis")
    if request.param == "stand-in":
        return SimpleNamespace(name="stand-in", block=standin_block(folder), device="cpu")
    root, python = os.environ["TRELLIS_ROOT"], os.environ.get("TRELLIS_PYTHON", sys.executable)
    cuda = subprocess.run([python, "-c", "import torch; assert torch.cuda.is_available()"], capture_output=True)
    device = "cpu" if cuda.returncode else "cuda:0"
    block = {"root": root, "python": python}
    if "TRELLIS_WEIGHTS" in os.environ:
        return SimpleNamespace(name="real", block={**block, "weights": os.environ["TRELLIS_WEIGHTS"]}, device=device)
    environment = {"PYTHONPATH": str(STANDINS / "on_cpu"), "SPCONV_ALGO": "native"}
    if device == "cpu":
        environment["ATTN_BACKEND"] = "xformers"
    command = [python, STANDINS / "tiny_trellis.py", root, folder / "tiny"]
    subprocess.run(command, env={**os.environ, **environment}, check=True)
    return SimpleNamespace(
        name="real", block={**block, "weights": str(folder / "tiny"), "environment": environment}, device=device
    )


def standin_block(folder: Path) -> dict:
    weights = folder / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "pipeline.json").write_text('{"args": {"models": {}}}')
    return {"root": str(STANDINS / "trellis"), "weights": str(weights)}


@pytest.fixture(scope="module")
def teacher(code, tmp_path_factory):
    params = trellis.Params(**code.block, structure_steps=3, latent_steps=3, images="named")
    teacher = trellis.create(params, Site(device=code.device, folder=tmp_path_factory.mktemp("host")))
    yield teacher
    teacher.close()


@pytest.fixture(scope="module")
def shape(teacher):
    return teacher.generate(views("front"), seed=1)


def views(*names: str, red: int = 200) -> Views:
    """Discs on a transparent ground."""
    y, x = np.mgrid[:64, :64] - 31.5
    rgba_VHW4 = np.zeros((len(names), 64, 64, 4), np.uint8)
    for index in range(len(names)):
        rgba_VHW4[index][np.hypot(x, y) < 14 + 3 * index] = (red, 90 * index % 256 if red else 0, red // 2, 255)
    return Views(names, rgba_VHW4)


def standin_pipelines() -> ModuleType:
    """The stand-in's `trellis.pipelines`, in this process."""
    sys.path.insert(0, str(STANDINS / "trellis"))
    try:
        return importlib.import_module("trellis.pipelines")
    finally:
        sys.path.remove(str(STANDINS / "trellis"))


def voxel_centres(shape) -> np.ndarray:
    """Where the voxels lie in the canonical frame, by what the record says of TRELLIS's own."""
    resolution = int(shape.quality["latents_frame"].split("/ ")[1].split()[0])
    own_N3 = (shape.latents["coords_N3"] + 0.5) / resolution - 0.5
    placement = shape.quality["placement"]
    assert placement["rotation"] == TO_Y_UP["z"].astype(int).tolist()
    turned_N3 = own_N3 @ np.array(placement["rotation"]).T
    return placement["scale"] * (turned_N3 - placement["centre"]), placement["scale"] / resolution


def test_mesh_gaussians_voxels_and_latents_come_out_with_their_shapes(shape):
    coords_N3, slat_N8 = shape.latents["coords_N3"], shape.latents["slat_N8"]
    assert coords_N3.dtype == np.int32
    assert slat_N8.dtype == np.float16
    assert coords_N3.shape == (len(slat_N8), 3)
    assert slat_N8.shape[1] == 8
    assert coords_N3.min() >= 0
    assert coords_N3.max() <= 63
    assert len(np.unique(coords_N3, axis=0)) == len(coords_N3)
    assert len(shape.gaussians.means_N3) == 32 * len(coords_N3)
    assert shape.mesh.vertices_N3.dtype == np.float32
    assert shape.mesh.faces_F3.dtype == np.int32
    assert shape.mesh.colours_N4.shape == (len(shape.mesh.vertices_N3), 4)
    assert len(np.unique(shape.mesh.faces_F3)) == len(shape.mesh.vertices_N3)
    assert shape.quality["voxels"] == len(coords_N3)
    assert shape.quality["teacher_views"] == ["front"]
    assert shape.rung == 0


def test_the_mesh_is_canonical_and_faces_outward(shape):
    vertices_N3 = shape.mesh.vertices_N3
    assert np.ptp(vertices_N3, axis=0).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(vertices_N3.min(axis=0) + vertices_N3.max(axis=0), 0, atol=1e-6)
    assert volume(shape.mesh) > 0


def test_gaussians_and_mesh_lie_at_their_voxels(shape):
    """Each voxel has its 32 Gaussians within 3/4 of its side, and the surface passes through voxels."""
    centres_N3, side = voxel_centres(shape)
    offsets_N3 = shape.gaussians.means_N3 - np.repeat(centres_N3, 32, axis=0)
    assert np.abs(offsets_N3).max() < 0.75 * side + 1e-5
    distance_N, _ = cKDTree(centres_N3).query(shape.mesh.vertices_N3, p=np.inf)
    assert distance_N.max() < 1.1 * side


def test_gaussians_are_finite_and_their_rotations_are_of_unit_length(shape):
    gaussians = shape.gaussians
    np.testing.assert_allclose(np.linalg.norm(gaussians.rotations_N4, axis=1), 1, atol=1e-5)
    assert np.abs(gaussians.opacity_logits_N).max() <= trellis.LARGEST_LOGIT
    assert np.isfinite(gaussians.log_scales_N3).all()


def test_equal_seeds_give_equal_latents_and_others_do_not(teacher, shape):
    again, other = teacher.generate(views("front"), seed=1), teacher.generate(views("front"), seed=2)
    np.testing.assert_array_equal(again.latents["coords_N3"], shape.latents["coords_N3"])
    np.testing.assert_allclose(again.latents["slat_N8"], shape.latents["slat_N8"], atol=2e-2)
    first, second = shape.latents["slat_N8"], other.latents["slat_N8"]
    assert first.shape != second.shape or np.abs(first - second).max() > 0.1


@pytest.mark.parametrize("mode", trellis.Mode)
def test_several_views_are_taken_in_both_modes_and_unknown_names_are_left_out(teacher, shape, mode):
    several = views("ring_00", "right", "front", "left")
    chosen = trellis.choose_views(several, trellis.Images.NAMED)
    assert chosen.names == ("front", "left", "right")
    settings = {**teacher._settings, "mode": mode.value}
    figures, arrays = teacher._client.generate("several", chosen.names, chosen.rgba_VHW4, settings, 1)
    made = trellis.read_answer(arrays, figures)
    assert made.quality["teacher_views"] == ["front", "left", "right"]
    assert not np.array_equal(made.latents["slat_N8"], shape.latents["slat_N8"])
    single = teacher.generate(views("front"), seed=1)  # the samplers are themselves again
    np.testing.assert_allclose(single.latents["slat_N8"], shape.latents["slat_N8"], atol=2e-2)


def test_offloading_by_stages_changes_no_result(teacher, shape):
    front = views("front")
    settings = {**teacher._settings, "staged_offload": True}
    _, arrays = teacher._client.generate("staged", front.names, front.rgba_VHW4, settings, 1)
    np.testing.assert_array_equal(arrays["coords_N3"], shape.latents["coords_N3"])
    np.testing.assert_allclose(arrays["slat_N8"], shape.latents["slat_N8"], atol=2e-2)


@pytest.mark.parametrize(
    ("alpha", "text"), [(255, "view 'front' has no background"), (0, "view 'front' shows no object")]
)
def test_opaque_and_empty_images_are_bad_inputs(teacher, alpha, text):
    image = views("front")
    image.rgba_VHW4[..., 3] = alpha
    with pytest.raises(ItemFailed, match=text) as caught:
        teacher.generate(image, seed=0)
    assert caught.value.failure_class == "bad_input"


@pytest.fixture(scope="module")
def standin(tmp_path_factory):
    """Whose object is known, unlike that of random weights."""
    folder = tmp_path_factory.mktemp("standin")
    teacher = trellis.create(trellis.Params(**standin_block(folder), preset="fast"), Site(folder=folder))
    yield teacher
    teacher.close()


def test_z_up_becomes_y_up_and_the_front_faces_z(standin):
    """Slab and knob: 24 x 12 x 40 voxels (x, y, z), the knob at +x, -y (the front) and +z (the top)."""
    shape = standin.generate(views("front"), seed=0)
    np.testing.assert_allclose(shape.mesh.extents, [24 / 40, 1, 12 / 40], atol=1e-5)
    knob_N3 = shape.mesh.vertices_N3[shape.mesh.vertices_N3[:, 2] > 0.1]
    np.testing.assert_allclose(knob_N3.min(axis=0), [8 / 40, 16 / 40, 6 / 40], atol=1e-5)
    np.testing.assert_allclose(knob_N3.max(axis=0), [12 / 40, 20 / 40, 6 / 40], atol=1e-5)
    assert volume(shape.mesh) == pytest.approx((24 * 8 * 40 + 4**3) / 40**3, rel=1e-4)
    long_axis_3 = Rotation.from_quat(shape.gaussians.rotations_N4[0], scalar_first=True).apply([0, 0, 1])
    np.testing.assert_allclose(long_axis_3, [0, 1, 0], atol=1e-6)  # they were long in z
    np.testing.assert_allclose(np.exp(shape.gaussians.log_scales_N3[0]), np.array([0.002, 0.002, 0.01]) * 64 / 40)
    np.testing.assert_array_equal(np.unique(shape.gaussians.opacity_logits_N), [2, trellis.LARGEST_LOGIT])


def test_no_voxels_are_an_empty_output(standin):
    with pytest.raises(ItemFailed, match="no occupied voxel") as caught:
        standin.generate(views("front", red=0), seed=0)
    assert caught.value.failure_class == "empty_output"


def test_memory_that_runs_out_leads_down_the_ladder_to_fewer_formats(tmp_path):
    params = trellis.Params(**standin_block(tmp_path), environment={"STANDIN_MEMORY": "mesh"})
    teacher = trellis.create(params, Site(folder=tmp_path))
    try:
        shape = teacher.generate(views("front"), seed=0)
    finally:
        teacher.close()
    assert shape.rung == 2
    assert shape.gaussians is None
    assert shape.quality["formats"] == ["mesh"]
    assert [step["outcome"] for step in shape.measured["steps"]] == ["oom_gpu", "oom_gpu", "done"]


def test_an_error_while_several_images_are_sampled_leaves_the_sampler_as_it_was():
    pipeline = standin_pipelines().TrellisImageTo3DPipeline()
    before = dict(vars(pipeline.slat_sampler))
    with pytest.raises(MemoryError), runtime._sampling(pipeline, "slat_sampler", 2, 5, "stochastic"):
        assert "_inference_model" in vars(pipeline.slat_sampler)
        raise MemoryError
    assert vars(pipeline.slat_sampler) == before


def test_without_a_checkout_it_says_where_it_looked_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("TRELLIS_ROOT", raising=False)
    site = Site(folder=tmp_path, environments=tmp_path / "environments")
    with pytest.raises(Unavailable, match=r"no checkout of TRELLIS at .*TRELLIS_ROOT is set\): run `lostwax teacher"):
        trellis.create(trellis.Params(), site)
    monkeypatch.setenv("TRELLIS_ROOT", str(tmp_path / "elsewhere"))
    with pytest.raises(Unavailable, match=r"at .*elsewhere, from TRELLIS_ROOT: .*its submodules"):
        trellis.create(trellis.Params(), site)


def test_weights_that_are_missing_or_not_complete_are_named(tmp_path):
    block = {"root": str(STANDINS / "trellis"), "weights": str(tmp_path / "weights")}
    with pytest.raises(Unavailable, match=r"no TRELLIS weights at .*weights .no pipeline.json.*TRELLIS-image-large"):
        trellis.create(trellis.Params(**block), Site(folder=tmp_path))
    (tmp_path / "weights" / "ckpts").mkdir(parents=True)
    (tmp_path / "weights" / "pipeline.json").write_text('{"args": {"models": {"a": "ckpts/a", "b": "of/the/hub"}}}')
    (tmp_path / "weights" / "ckpts" / "a.json").touch()
    with pytest.raises(Unavailable, match=r"not complete; there is no ckpts/a.safetensors$"):
        trellis.create(trellis.Params(**block), Site(folder=tmp_path))
    expected = [tmp_path / "weights" / name for name in ("pipeline.json", "ckpts/a.json", "ckpts/a.safetensors")]
    assert list(trellis.weights(trellis.Params(**block), tmp_path)) == expected


def test_gaussians_alone_are_canonical_by_their_own_box(standin, tmp_path):
    params = trellis.Params(**standin_block(tmp_path), preset="fast", formats=["gaussian"])
    teacher = trellis.create(params, Site(folder=tmp_path))
    try:
        made = teacher.generate(views("front"), seed=0)
    finally:
        teacher.close()
    assert made.mesh is None
    assert made.quality["formats"] == ["gaussian"]
    beside_mesh_N3 = standin.generate(views("front"), seed=0).gaussians.means_N3
    low_3, high_3 = beside_mesh_N3.min(axis=0), beside_mesh_N3.max(axis=0)
    expected_N3 = (beside_mesh_N3 - (low_3 + high_3) / 2) / (high_3 - low_3).max()
    np.testing.assert_allclose(made.gaussians.means_N3, expected_N3, atol=1e-5)


def test_a_smaller_rung_makes_nothing_that_was_not_asked_for(tmp_path):
    block = trellis.effective(trellis.Params(formats=["gaussian"]), tmp_path)
    assert block.ladder == [{"staged_offload": True}]
    assert trellis.effective(trellis.Params(), tmp_path).ladder == trellis.LADDER


def test_colours_that_are_nan_are_an_empty_output():
    mesh = standin_pipelines().box_mesh()
    mesh.vertex_attrs[3, 1] = float("nan")
    with pytest.raises(EmptyOutput, match=r"colours that are NaN \(vertex_attrs: 1 of 16\)"):
        runtime._mesh(mesh)


def test_a_block_without_formats_or_with_a_rung_that_cannot_be_taken_is_refused():
    with pytest.raises(ValueError, match="formats must name mesh, gaussian or both"):
        trellis.Params(formats=[])
    with pytest.raises(ValueError, match="rung 1 has weights; it may change: formats, latent_guidance"):
        trellis.Params(ladder=[{"weights": "elsewhere"}])


def test_all_views_or_the_first_one_are_given_by_choice():
    photos = replace(views("a", "b"), cameras=None)
    assert trellis.choose_views(photos, trellis.Images.ALL).names == ("a", "b")
    assert trellis.choose_views(photos, trellis.Images.NAMED).names == ("front",)

"""TRELLIS's image pipeline, from a checkout of its repository.

    generate = load({"root": "/src/TRELLIS", "weights": "/weights/TRELLIS-image-large", ...}, "cuda:0")
    figures, arrays = generate({"names": ["front"], "settings": {...}, "seed": 7}, {"rgba_VHW4": images})

The stages are called one by one, so that the voxels and their latents come out, and so that one stage's networks can
be on the GPU at a time.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import BadInput, EmptyOutput, Unavailable
from models.hosting.messages import Arrays

SOLID = 204
"""TRELLIS measures the object by the pixels whose alpha is above this."""
SMALLEST_PX = 2


def load(settings: Mapping[str, Any], device: str) -> Callable[[Mapping[str, Any], Arrays], tuple[Any, Arrays]]:
    """The pipeline. Raises Unavailable where its code or weights cannot be had."""
    _check_weights(settings["weights"])
    os.environ.setdefault("SPCONV_ALGO", "native")  # `auto` measures at every new size before it works
    if importlib.util.find_spec("flash_attn") is None:  # TRELLIS takes it for granted
        os.environ.setdefault("ATTN_BACKEND", "xformers")
    sys.path.insert(0, settings["root"])
    import torch

    library = importlib.import_module("trellis.pipelines")
    try:
        pipeline = library.TrellisImageTo3DPipeline.from_pretrained(settings["weights"])
    except ImportError:
        raise
    except Exception as error:  # the hub's client, torch.hub and the loader's own fallbacks raise many things
        raise Unavailable(
            f"TRELLIS does not load its weights {settings['weights']!r} ({type(error).__name__}: {error}): on a "
            "machine with a network fetch the repository microsoft/TRELLIS-image-large into a folder and name it in "
            "teachers.trellis.weights; DINOv2, which torch.hub keeps in $TORCH_HOME, is fetched by the first run there"
        ) from error
    pipeline.models.pop("slat_decoder_rf", None)
    networks = _Networks(pipeline, torch.device(device))
    networks.keep(staged=settings["staged_offload"])

    def generate(request: Mapping[str, Any], arrays: Arrays) -> tuple[Any, Arrays]:
        images = _images(request["names"], arrays["rgba_VHW4"])
        with torch.no_grad():
            return _generate(networks, request["names"], images, request["settings"], request["seed"])

    return generate


class _Networks:
    """Those of the pipeline: all on the device, or (staged) there only while they work."""

    def __init__(self, pipeline: Any, device: Any) -> None:
        self.pipeline = pipeline
        self.device = device
        self.staged: bool | None = None
        # The pipeline believes to be where its first network is; in stages that need not be the device.
        pipeline.__class__ = type("OnDevice", (type(pipeline),), {"device": device})

    def keep(self, *, staged: bool) -> None:
        if staged is not self.staged:
            self._move("cpu" if staged else self.device, self.pipeline.models)
            self.staged = staged

    @contextmanager
    def on_device(self, *names: str) -> Iterator[None]:
        """These networks are on the device."""
        if not self.staged:
            yield
            return
        try:
            self._move(self.device, names)
            yield
        finally:
            self._move("cpu", names)

    def _move(self, place: Any, names: Any) -> None:
        import torch

        for name in names:
            self.pipeline.models[name].to(place)
        if place == "cpu" and self.device.type == "cuda":
            torch.cuda.empty_cache()


def _generate(
    networks: _Networks, names: Sequence[str], images: Sequence[Any], chosen: Mapping[str, Any], seed: int
) -> tuple[Any, Arrays]:
    import torch

    pipeline = networks.pipeline
    networks.keep(staged=chosen["staged_offload"])
    with networks.on_device("image_cond_model"):
        condition = pipeline.get_cond([pipeline.preprocess_image(image) for image in images])
    condition["neg_cond"] = condition["neg_cond"][:1]
    torch.manual_seed(seed)
    structure = {"steps": chosen["structure_steps"], "cfg_strength": chosen["structure_guidance"]}
    latent = {"steps": chosen["latent_steps"], "cfg_strength": chosen["latent_guidance"]}
    with (
        networks.on_device("sparse_structure_flow_model", "sparse_structure_decoder"),
        _sampling(pipeline, "sparse_structure_sampler", len(images), structure["steps"], chosen["mode"]),
    ):
        coords_N4 = pipeline.sample_sparse_structure(condition, 1, structure)
    if len(coords_N4) == 0:
        raise EmptyOutput("TRELLIS found no occupied voxel")
    with (
        networks.on_device("slat_flow_model"),
        _sampling(pipeline, "slat_sampler", len(images), latent["steps"], chosen["mode"]),
    ):
        slat = pipeline.sample_slat(condition, coords_N4, latent)
    if not torch.isfinite(slat.feats).all():
        raise EmptyOutput("TRELLIS's latents are not finite")
    arrays = {"coords_N3": _numpy(coords_N4[:, 1:], np.int32), "slat_N8": _numpy(slat.feats, np.float16)}
    for form, decoder, take in (("mesh", "slat_decoder_mesh", _mesh), ("gaussian", "slat_decoder_gs", _gaussians)):
        if form in chosen["formats"]:
            with networks.on_device(decoder):
                arrays |= take(pipeline.decode_slat(slat, [form])[form][0])
    made = {
        "views": list(names),
        "resolution": int(pipeline.models["slat_flow_model"].resolution),
        **{name: chosen[name] for name in ("structure_steps", "latent_steps", "formats")},
    }
    return made, arrays


@contextmanager
def _sampling(pipeline: Any, name: str, num_images: int, steps: int, mode: str) -> Iterator[None]:
    """With several images the sampler takes them in turn or their mean. It is itself again after, errors included."""
    if num_images == 1:
        yield
        return
    sampler = getattr(pipeline, name)
    before = dict(vars(sampler))
    try:
        with pipeline.inject_sampler_multi_image(name, num_images, steps, mode=mode):
            yield
    finally:
        vars(sampler).clear()
        vars(sampler).update(before)


def _mesh(mesh: Any) -> dict[str, Any]:
    if len(mesh.vertices) == 0 or len(mesh.faces) == 0:
        raise EmptyOutput("TRELLIS's mesh has no faces")
    used_N, corners = np.unique(_numpy(mesh.faces, np.int64), return_inverse=True)  # not every vertex has a face
    arrays = {
        "vertices_N3": _numpy(mesh.vertices, np.float32)[used_N],
        "faces_F3": corners.reshape(-1, 3).astype(np.int32),
    }
    if getattr(mesh, "vertex_attrs", None) is not None:
        rgb_N3 = _numpy(mesh.vertex_attrs[:, :3], np.float32)[used_N].clip(0, 1)  # then come normals
        if num_bad := int(np.isnan(rgb_N3).any(axis=1).sum()):
            raise EmptyOutput(f"TRELLIS's mesh has colours that are NaN (vertex_attrs: {num_bad} of {len(rgb_N3)})")
        rgba_N4 = np.concatenate([rgb_N3, np.ones((len(rgb_N3), 1), np.float32)], axis=1)
        arrays["colours_N4"] = np.rint(255 * rgba_N4).astype(np.uint8)
    return arrays


def _gaussians(gaussians: Any) -> dict[str, Any]:
    """TRELLIS's own file: it alone knows the biases and activations of what it holds. Not turned."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gaussians.ply"
        gaussians.save_ply(str(path), transform=None)
        return {"gaussians_ply": np.frombuffer(path.read_bytes(), np.uint8)}


def _numpy(tensor: Any, dtype: Any) -> Any:
    return tensor.detach().cpu().numpy().astype(dtype)


def _images(names: Sequence[str], rgba_VHW4: Any) -> list[Any]:
    """The views as PIL images. From an opaque one TRELLIS would remove the background with a model of its own."""
    from PIL import Image

    for name, rgba_HW4 in zip(names, rgba_VHW4, strict=True):
        alpha_HW = rgba_HW4[..., 3]
        if alpha_HW.min() == 255:
            raise BadInput(f"view {name!r} has no background to tell the object from: it is opaque")
        spans = [np.flatnonzero((alpha_HW > SOLID).any(axis=axis)) for axis in (0, 1)]
        if any(len(span) == 0 for span in spans) or max(span[-1] - span[0] for span in spans) < SMALLEST_PX:
            raise BadInput(f"view {name!r} shows no object: its silhouette is empty")
    return [Image.fromarray(np.ascontiguousarray(rgba_HW4)) for rgba_HW4 in rgba_VHW4]


def _check_weights(weights: str) -> None:
    """TRELLIS takes a network that is missing from a folder for one of the hub's, and fails with its words."""
    folder = Path(weights)
    if not folder.is_absolute():
        return
    if not (folder / "pipeline.json").is_file():
        raise Unavailable(
            f"there are no TRELLIS weights at {folder} (no pipeline.json): fetch the repository "
            "microsoft/TRELLIS-image-large into it on a machine with a network"
        )
    networks = json.loads((folder / "pipeline.json").read_text())["args"]["models"].values()
    local = [network for network in networks if (folder / network).parent.is_dir()]  # others are of the hub
    files = [f"{network}{end}" for network in local for end in (".json", ".safetensors")]
    if missing := [file for file in files if not (folder / file).is_file()]:
        raise Unavailable(f"TRELLIS's weights at {folder} are not complete; there is no {', '.join(missing)}")

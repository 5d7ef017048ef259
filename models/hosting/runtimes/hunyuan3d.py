"""Hunyuan3D 2.0's shape pipeline, as `hy3dgen` 2.0.2 packages it.

generate = load({"weights": "/weights/hunyuan3d", "subfolder": "hunyuan3d-dit-v2-mv", ...}, "cuda:0")
figures, arrays = generate({"names": ["front", "left"], "settings": {...}, "seed": 7}, {"rgba_VHW4": images})
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import BadInput, EmptyOutput, Unavailable
from models.hosting.messages import Arrays

FILES = ("config.yaml", "model.fp16.safetensors")
NO_SURFACE = ("Surface level must be within volume data range", "No surface found")
"""What marching cubes says of a volume that its level does not cross."""
SMALLEST_PX = 2


def load(settings: Mapping[str, Any], device: str) -> Callable[[Mapping[str, Any], Arrays], tuple[Any, Arrays]]:
    """The pipeline on the device. Raises Unavailable where its weights cannot be had."""
    weights, subfolder = settings["weights"], settings["subfolder"]
    folder = local_folder(weights, subfolder)
    _check_files(folder, weights)

    import torch
    from hy3dgen.shapegen import Hunyuan3DDiTFlowMatchingPipeline

    try:
        pipeline = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(
            weights, subfolder=subfolder, device=device, dtype=getattr(torch, settings["dtype"]), use_safetensors=True
        )
    except Exception as error:  # without the folder it asks the hub, whose client raises many things
        if folder.is_dir():
            raise
        raise Unavailable(f"{_how_to_get(folder, weights)} ({type(error).__name__}: {error})") from error
    if settings["flashvdm"]:
        pipeline.enable_flashvdm(replace_vae=False, mc_algo="mc")
    for part in (pipeline.vae, pipeline.model, pipeline.conditioner):
        part.eval()
    swallowed = keep_errors(pipeline.vae.surface_extractor)

    def generate(request: Mapping[str, Any], arrays: Arrays) -> tuple[Any, Arrays]:
        chosen, images = request["settings"], _images(request["names"], arrays["rgba_VHW4"])
        swallowed.clear()
        [mesh] = pipeline(
            image=images if chosen["multi_view"] else images["front"],
            num_inference_steps=chosen["steps"],
            guidance_scale=chosen["guidance_scale"],
            generator=torch.Generator(device=device).manual_seed(request["seed"]),
            octree_resolution=chosen["octree_resolution"],
            num_chunks=chosen["num_chunks"],
            enable_pbar=False,
        )
        if mesh is None:
            raise why_none(swallowed)
        if len(mesh.faces) == 0:
            raise EmptyOutput("the teacher returned a mesh without faces")
        made = {"steps": chosen["steps"], "octree_resolution": chosen["octree_resolution"], "views": list(images)}
        vertices_N3 = np.asarray(mesh.vertices, np.float32)
        return made, {"vertices_N3": vertices_N3, "faces_F3": np.asarray(mesh.faces, np.int32)}

    return generate


def local_folder(weights: str, subfolder: str) -> Path:
    """Where hy3dgen looks before it asks the hub. `weights` may be an absolute path."""
    base = os.environ.get("HY3DGEN_MODELS", "~/.cache/hy3dgen")
    return Path(base, weights, subfolder).expanduser()


def keep_errors(extractor: Any) -> list[Exception]:
    """Where the extractor puts what it would swallow: it prints the error of a shape and returns None in its place.

    The last one is kept until the list is cleared; with it, while it is kept, the tensors of its frames.
    """
    run = extractor.run
    errors: list[Exception] = []

    def kept(*args: Any, **settings: Any) -> Any:
        try:
            return run(*args, **settings)
        except Exception as error:
            errors[:] = [error]
            raise

    extractor.run = kept
    return errors


def why_none(errors: list[Exception]) -> Exception:
    """The error behind a None: no surface is an empty output, anything else (out of memory) is what it is."""
    error = errors.pop() if errors else None
    if error is None:
        return EmptyOutput("hy3dgen returned no mesh, and no reason")
    if any(sign in str(error) for sign in NO_SURFACE):
        return EmptyOutput(f"hy3dgen found no surface: {error}")
    return error


def _check_files(folder: Path, weights: str) -> None:
    if not folder.is_dir():
        if Path(weights).is_absolute():
            raise Unavailable(_how_to_get(folder, weights))
        return
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise Unavailable(f"{folder} lacks {', '.join(missing)}: {_how_to_get(folder, weights)}")


def _how_to_get(folder: Path, weights: str) -> str:
    hub = "the model's repository (e.g. tencent/Hunyuan3D-2mini)" if Path(weights).is_absolute() else weights
    return (
        f"there are no Hunyuan3D weights at {folder}: on a machine with a network fetch `{folder.name}/*` of {hub} "
        f"(`hf download ID --include '{folder.name}/*' --local-dir DIR`), then name DIR in teachers.hunyuan3d.weights"
    )


def _images(names: list[str], rgba_VHW4: Any) -> dict[str, Any]:
    """The views as PIL images by name. hy3dgen takes an opaque image for all object: none may get here."""
    from PIL import Image

    for name, rgba_HW4 in zip(names, rgba_VHW4, strict=True):
        alpha_HW = rgba_HW4[..., 3]
        if alpha_HW.min() == 255:
            raise BadInput(f"view {name!r} has no background to tell the object from: it is opaque")
        spans = [np.flatnonzero(alpha_HW.any(axis=axis)) for axis in (0, 1)]
        if any(len(span) == 0 or span[-1] - span[0] < SMALLEST_PX for span in spans):
            raise BadInput(f"view {name!r} shows no object: its silhouette is empty")
    return {
        name: Image.fromarray(np.ascontiguousarray(rgba_HW4)) for name, rgba_HW4 in zip(names, rgba_VHW4, strict=True)
    }

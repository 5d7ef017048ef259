"""`lostwax export-encoder`: a DINOv2 or Depth Anything checkpoint as one ONNX file that describes itself.

The network is the checkpoint's own transformers class; the file is accepted only when onnxruntime gives what torch
gives. Needs the `export` extra (transformers, onnx, onnxscript).
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import Unavailable
from models.onnx import METADATA_KEY, Description, Machine, open_session

MODEL_TYPES = {"dinov2": ("dinov2", "dinov2_with_registers"), "depth_anything": ("depth_anything",)}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Both families were trained on images normalised so."""
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Export:
    """path: the file written. max_difference: the largest torch-onnxruntime difference, over the largest value."""

    path: Path
    description: Description
    max_difference: float

    def __str__(self) -> str:
        of = f"{self.path}: {self.description.id} from {self.description.checkpoint}"
        return f"{of}, licence {self.description.licence}; differs from torch by at most {self.max_difference:.1g}"


def export_encoder(
    family: str, checkpoint: str, output: Path, image_size_px: int = 224, *, licence: str = "unknown"
) -> Export:
    """Write `checkpoint` (a folder, or a hub id such as facebook/dinov2-small) to `output`, with the batch size free.

    Raises ValueError for what cannot be exported, Unavailable for missing packages or a
    checkpoint out of reach, RuntimeError where the exported network disagrees with the original.
    """
    if family not in MODEL_TYPES:
        raise ValueError(f"unknown encoder family {family!r}; there are: {', '.join(MODEL_TYPES)}")
    _require_packages()
    model = _load(family, checkpoint)
    description = _describe(family, model, image_size_px, checkpoint, licence)
    network = _network(family, model)
    part = output.with_name(output.name + ".part")
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(network, description, part)
        difference = _compare(network, description, part)
        if difference > TOLERANCE:
            raise RuntimeError(f"{checkpoint}: onnxruntime is {difference:.2g} off torch (limit {TOLERANCE:g})")
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    return Export(output, description, difference)


def _require_packages() -> None:
    missing = [name for name in ("transformers", "onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise Unavailable(f"exporting needs {', '.join(missing)}: install lostwax[export]")


def _load(family: str, checkpoint: str) -> Any:
    """The checkpoint's model from safetensors, in evaluation mode, with attention that exports."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    except OSError as error:
        raise Unavailable(f"cannot read the checkpoint {checkpoint}: {error}") from error
    if config.model_type not in MODEL_TYPES[family]:
        wanted = " or ".join(MODEL_TYPES[family])
        raise ValueError(f"{checkpoint} is a {config.model_type} checkpoint; {family} exports {wanted}")
    if getattr(config, "depth_estimation_type", "relative") != "relative":
        raise ValueError(f"{checkpoint} estimates metric depth; the depth_anything plug-in takes relative models")
    model_class = {
        "dinov2": transformers.Dinov2Model,
        "dinov2_with_registers": transformers.Dinov2WithRegistersModel,
        "depth_anything": transformers.DepthAnythingForDepthEstimation,
    }[config.model_type]
    try:
        model = model_class.from_pretrained(checkpoint, use_safetensors=True, attn_implementation="eager")
    except OSError as error:
        raise Unavailable(f"cannot read the weights of {checkpoint}: {error}") from error
    return model.eval()


def _describe(family: str, model: Any, image_size_px: int, checkpoint: str, licence: str) -> Description:
    backbone = model.config.backbone_config if family == "depth_anything" else model.config
    if image_size_px % backbone.patch_size:
        raise ValueError(f"image size {image_size_px} px is no multiple of the patch size {backbone.patch_size} px")
    registers = getattr(backbone, "num_register_tokens", 0)
    is_encoder = family == "dinov2"
    return Description(
        family=family,
        id=f"{family}-{backbone.hidden_size}x{backbone.num_hidden_layers}-{image_size_px}px-{_digest(model)}",
        image_size_px=image_size_px,
        patch_px=backbone.patch_size,
        channels=backbone.hidden_size if is_encoder else 0,
        num_prefix_tokens=1 + registers if is_encoder else 0,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        checkpoint=Path(checkpoint).name if Path(checkpoint).exists() else checkpoint,
        licence=licence,
    )


def _digest(model: Any) -> str:
    """8 hex over the weights: fine-tuned copies of one network are different encoders."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def _network(family: str, model: Any) -> Any:
    """The model with one tensor in and one out: all tokens (B, N, C), or inverse depth (B, S, S)."""
    import torch

    output = "last_hidden_state" if family == "dinov2" else "predicted_depth"

    class OneOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels_B3SS: torch.Tensor) -> Any:
            return getattr(self.model(pixels_B3SS), output)

    return OneOutput().eval()


def _write(network: Any, description: Description, path: Path) -> None:
    import onnx
    import torch

    example = torch.from_numpy(_pixels(description, batch=2))
    batch = torch.export.Dim("batch", min=1)
    program = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        input_names=["pixels"],
        output_names=["output"],
        dynamic_shapes=({0: batch},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {METADATA_KEY: description.to_json()})
    onnx.save(model, str(path))


def _compare(network: Any, description: Description, path: Path) -> float:
    """The largest difference between torch and onnxruntime over the largest value, for batches of 1 and 3."""
    import torch

    session = open_session(path, Machine(Path()))
    worst = 0.0
    for batch in (1, 3):
        pixels = _pixels(description, batch)
        with torch.no_grad():
            expected = network(torch.from_numpy(pixels)).numpy()
        found = session.run(None, {"pixels": pixels})[0]
        worst = max(worst, float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12)))
    return worst


def _pixels(description: Description, batch: int) -> Any:
    shape = (batch, 3, description.image_size_px, description.image_size_px)
    return np.random.default_rng(batch).standard_normal(shape).astype(np.float32)

"""Tiny random weights for the real TRELLIS: `PYTHON tiny_trellis.py ROOT FOLDER`, with on_cpu on PYTHONPATH.

Resolution 16 instead of 64; every network is of the class that the published weights are of, in float32.
"""

import importlib
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

RESOLUTION, CHANNELS = 16, 32
FLOW = {
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": CHANNELS,
    "cond_channels": 1024,
    "num_blocks": 1,
    "num_heads": 2,
    "pe_mode": "ape",
    "qk_rms_norm": True,
}
DECODER = {"resolution": RESOLUTION, "latent_channels": 8, "num_blocks": 1, "num_heads": 2, "attn_mode": "swin"}
GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True,
    "voxel_size": 1.5,
    "num_gaussians": 32,
    "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 0.0009,
    "scaling_bias": 0.004,
    "opacity_bias": 0.1,
    "scaling_activation": "softplus",
}
NETWORKS = {
    "sparse_structure_flow_model": ("SparseStructureFlowModel", {**FLOW, "resolution": 4, "patch_size": 1}),
    "sparse_structure_decoder": (
        "SparseStructureDecoder",
        {
            "out_channels": 1,
            "latent_channels": 8,
            "num_res_blocks": 1,
            "num_res_blocks_middle": 1,
            "channels": [32, 16, 8],
        },
    ),
    "slat_flow_model": (
        "SLatFlowModel",
        {**FLOW, "resolution": RESOLUTION, "patch_size": 2, "num_io_res_blocks": 1, "io_block_channels": [32]},
    ),
    "slat_decoder_gs": ("SLatGaussianDecoder", {**DECODER, "model_channels": 64, "representation_config": GAUSSIANS}),
    "slat_decoder_mesh": (
        "SLatMeshDecoder",
        {**DECODER, "model_channels": 256, "representation_config": {"use_color": True}},
    ),
}


def main() -> None:
    root, folder = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(root))
    models = importlib.import_module("trellis.models")
    (folder / "ckpts").mkdir(parents=True)
    torch.manual_seed(0)
    for name, (kind, args) in NETWORKS.items():
        network = getattr(models, kind)(**args)
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
        if name == "slat_decoder_mesh":  # its first 8 outputs are signed distances: an object, solid in its voxels
            network.out_layer.weight.data[:8] *= 0.01
            network.out_layer.bias.data[:8] = -1
        (folder / "ckpts" / f"{name}.json").write_text(json.dumps({"name": kind, "args": args}))
        state = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
        save_file(state, folder / "ckpts" / f"{name}.safetensors")
    sampler = {
        "name": "FlowEulerGuidanceIntervalSampler",
        "args": {"sigma_min": 1e-5},
        "params": {"steps": 25, "cfg_strength": 5.0, "cfg_interval": [0.5, 1.0], "rescale_t": 3.0},
    }
    args = {
        "models": {name: f"ckpts/{name}" for name in NETWORKS},
        "sparse_structure_sampler": sampler,
        "slat_sampler": sampler,
        "slat_normalization": {"mean": [0.0] * 8, "std": [1.0] * 8},
        "image_cond_model": "dinov2_vitl14_reg",
    }
    (folder / "pipeline.json").write_text(json.dumps({"name": "TrellisImageTo3DPipeline", "args": args}))


main()

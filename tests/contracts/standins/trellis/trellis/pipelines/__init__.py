"""What of `trellis.pipelines` the runtime calls.

The object, in TRELLIS's frame (Z up, front at -Y): a slab of voxels 24 wide in x, 8 deep in y and 40 high in z, with a
knob of 4 voxels a side at its +x, -y, +z corner. Its mesh is the slab's and the knob's boxes. A seed moves the latents,
an all-black image has no voxels. $STANDIN_MEMORY=mesh: there is no memory for Gaussians.
"""

import os
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np
import torch
from PIL import Image

RESOLUTION = 64
SLAB = ((20, 28, 12), (44, 36, 52))
KNOB = ((40, 24, 48), (44, 28, 52))
GAUSSIANS_A_VOXEL = 32


class Sampler:
    """Steps and guidance arrive as they do in TRELLIS's; `_inference_model` is what several images replace."""

    def __init__(self):
        self.sigma_min = 1e-5

    def _inference_model(self, model, x_t, t, cond, neg_cond, cfg_strength, **kwargs):
        return cond.mean() * (1 + cfg_strength) - cfg_strength * neg_cond.mean()

    def sample(self, model, noise, cond, neg_cond, steps=25, cfg_strength=5.0, verbose=True):
        guidance = {"neg_cond": neg_cond, "cfg_strength": cfg_strength}
        total = sum(self._inference_model(model, noise, t, cond, **guidance) for t in range(steps))
        return SimpleNamespace(samples=noise + total / steps)


class TrellisImageTo3DPipeline:
    def __init__(self):
        names = ("image_cond_model", "sparse_structure_flow_model", "sparse_structure_decoder", "slat_flow_model")
        decoders = ("slat_decoder_mesh", "slat_decoder_gs", "slat_decoder_rf")
        self.models = {name: torch.nn.Linear(1, 1) for name in (*names, *decoders)}
        self.models["slat_flow_model"].resolution = RESOLUTION
        self.sparse_structure_sampler = Sampler()
        self.slat_sampler = Sampler()
        self.sparse_structure_sampler_params = {"steps": 25, "cfg_strength": 5.0}
        self.slat_sampler_params = {"steps": 25, "cfg_strength": 5.0}

    @staticmethod
    def from_pretrained(path: str) -> "TrellisImageTo3DPipeline":
        return TrellisImageTo3DPipeline()

    @property
    def device(self):
        return next(self.models["image_cond_model"].parameters()).device

    def preprocess_image(self, image: Image.Image) -> Image.Image:
        rgba_HW4 = np.array(image)
        assert image.mode == "RGBA", "a matted image is expected"
        assert not (rgba_HW4[..., 3] == 255).all(), "TRELLIS would remove the background again"
        boxed = np.argwhere(rgba_HW4[..., 3] > 0.8 * 255)
        boxed.min(axis=0)  # raises on an empty mask, as TRELLIS does
        rgb_HW3 = rgba_HW4[..., :3] * (rgba_HW4[..., 3:] / 255)
        return Image.fromarray(rgb_HW3.astype(np.uint8)).resize((518, 518))

    @torch.no_grad()
    def get_cond(self, images):
        means = [float(np.asarray(image).mean()) / 255 for image in images]
        cond = torch.stack([torch.full((1374, 1024), mean) for mean in means]).to(self.device)
        return {"cond": cond, "neg_cond": torch.zeros_like(cond)}

    def sample_sparse_structure(self, cond, num_samples=1, sampler_params=MappingProxyType({})):
        noise = torch.randn(num_samples, 8, 16, 16, 16).to(self.device)
        params = {**self.sparse_structure_sampler_params, **sampler_params}
        self.sparse_structure_sampler.sample(None, noise, **cond, **params, verbose=True)
        grid = torch.zeros(num_samples, RESOLUTION, RESOLUTION, RESOLUTION)
        if cond["cond"].abs().max() > 0:
            for (x0, y0, z0), (x1, y1, z1) in (SLAB, KNOB):
                grid[:, x0:x1, y0:y1, z0:z1] = 1
        return torch.argwhere(grid > 0).int().to(self.device)

    def sample_slat(self, cond, coords, sampler_params=MappingProxyType({})):
        noise = torch.randn(coords.shape[0], 8).to(self.device)
        params = {**self.slat_sampler_params, **sampler_params}
        feats = self.slat_sampler.sample(None, noise, **cond, **params, verbose=True).samples
        return SimpleNamespace(feats=feats, coords=coords, device=feats.device)

    def decode_slat(self, slat, formats=("mesh", "gaussian", "radiance_field")):
        if "gaussian" in formats and os.environ.get("STANDIN_MEMORY") == "mesh":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.25 GiB")
        decoded = {}
        if "mesh" in formats:
            decoded["mesh"] = [box_mesh()]
        if "gaussian" in formats:
            decoded["gaussian"] = [Gaussian(slat)]
        return decoded

    @contextmanager
    def inject_sampler_multi_image(self, sampler_name, num_images, num_steps, mode="stochastic"):
        """As TRELLIS does it: without a `finally`, so that an error leaves the sampler changed."""
        sampler = getattr(self, sampler_name)
        sampler._old_inference_model = sampler._inference_model
        if mode == "stochastic":
            turns = (np.arange(num_steps) % num_images).tolist()

            def replaced(model, x_t, t, cond, **kwargs):
                turn = turns.pop(0)
                return sampler._old_inference_model(model, x_t, t, cond=cond[turn : turn + 1], **kwargs)

        elif mode == "multidiffusion":

            def replaced(model, x_t, t, cond, **kwargs):
                each = [sampler._old_inference_model(model, x_t, t, cond=cond[[i]], **kwargs) for i in range(len(cond))]
                return sum(each) / len(each)

        else:
            raise ValueError(f"Unsupported mode: {mode}")
        sampler._inference_model = replaced
        yield
        sampler._inference_model = sampler._old_inference_model
        del sampler._old_inference_model


def box_mesh():
    """Two boxes, their faces counter-clockwise from outside, with 3 colour channels and 3 of normals."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    quads = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
    triangles = np.array([triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))])
    vertices, faces = [], []
    for low, high in (SLAB, KNOB):
        faces.append(triangles + 8 * len(vertices))
        vertices.append((np.array(low) + corners * (np.array(high) - np.array(low))) / RESOLUTION - 0.5)
    vertices_N3 = torch.tensor(np.concatenate(vertices), dtype=torch.float32)
    attributes_N6 = torch.cat([vertices_N3 + 0.5, torch.zeros_like(vertices_N3)], dim=1)
    return SimpleNamespace(
        vertices=vertices_N3, faces=torch.tensor(np.concatenate(faces)), vertex_attrs=attributes_N6, success=True
    )


class Gaussian:
    """32 in each voxel, long along z; every thousandth is so opaque that its logit is infinite."""

    def __init__(self, slat):
        centres_N3 = (slat.coords[:, 1:].float().cpu().numpy() + 0.5) / RESOLUTION - 0.5
        rng = np.random.default_rng(0)
        count = len(centres_N3) * GAUSSIANS_A_VOXEL
        offsets_N3 = (rng.random((count, 3)) - 0.5) / RESOLUTION
        self._xyz = np.repeat(centres_N3, GAUSSIANS_A_VOXEL, axis=0) + offsets_N3

    def save_ply(self, path, transform=((1, 0, 0), (0, 0, -1), (0, 1, 0))):
        assert transform is None, "by default TRELLIS turns its Gaussians into another frame"
        count = len(self._xyz)
        rows = np.zeros((count, 17), np.float32)
        rows[:, :3] = self._xyz
        rows[:, 6:9] = 0.5
        rows[:, 9] = 2.0
        rows[::1000, 9] = np.inf
        rows[:, 10:13] = np.log([0.002, 0.002, 0.01])
        rows[:, 13:] = (2, 0, 0, 0)  # not of unit length: TRELLIS saves rotations as they are
        names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
        names += ["scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
        header = ["ply", "format binary_little_endian 1.0", f"element vertex {count}"]
        header += [f"property float {name}" for name in names]
        with Path(path).open("wb") as file:
            file.write(("\n".join([*header, "end_header"]) + "\n").encode())
            file.write(rows.astype("<f4").tobytes())

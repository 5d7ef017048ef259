"""A teacher that makes Gaussians and no mesh, brought by another package: a ball in the colour of the first view."""

from __future__ import annotations

import numpy as np

from models.gaussians import Gaussians, sh_dc_from_rgb
from models.params import Block
from models.teachers import Site, TeacherOutput
from models.views import Views

NEEDS_CAMERAS = False
LICENCE = "none"


class Params(Block):
    """The `teachers.splatter` block."""

    count: int = 50
    """Gaussians of an item."""


def create(params: Params, site: Site) -> Splatter:
    return Splatter(params)


class Splatter:
    licence = LICENCE

    def __init__(self, params: Params) -> None:
        self._params = params

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> TeacherOutput:
        count, rng = self._params.count, np.random.default_rng(seed)
        directions_N3 = rng.normal(size=(count, 3))
        directions_N3 /= np.linalg.norm(directions_N3, axis=1, keepdims=True)
        seen_HW4 = views.rgba_VHW4[0]
        rgb_3 = seen_HW4[seen_HW4[..., 3] > 127][:, :3].mean(axis=0) / 255
        gaussians = Gaussians(
            means_N3=(0.4 * directions_N3).astype(np.float32),
            log_scales_N3=np.full((count, 3), np.log(0.05), np.float32),
            rotations_N4=np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
            opacity_logits_N=np.full(count, 2, np.float32),
            sh_dc_N3=sh_dc_from_rgb(np.tile(rgb_3, (count, 1)).astype(np.float32)),
        )
        return TeacherOutput((gaussians,))

    def close(self) -> None:
        pass

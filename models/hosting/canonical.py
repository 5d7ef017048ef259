"""From the frame of a teacher's library to the canonical one: turned, centred by its box, longest side 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import EmptyOutput
from models.gaussians import Gaussians
from models.geometry import FloatArray, Mesh

FAINTEST_LOGIT = -3.0
"""Of the opacity of a Gaussian that counts for the box: 5 %. Fainter ones may lie anywhere."""


@dataclass(frozen=True)
class Placement:
    """canonical = scale * (rotation_33 @ own - centre_3). rotation_33 is a proper rotation."""

    rotation_33: npt.NDArray[np.float64]
    centre_3: npt.NDArray[np.float64]
    scale: float

    @staticmethod
    def of(vertices_N3: npt.NDArray[Any], rotation_33: npt.NDArray[np.float64]) -> Placement:
        """The one that brings a mesh of these vertices into the canonical box. Raises EmptyOutput where none does."""
        if len(vertices_N3) == 0:
            raise EmptyOutput("the teacher returned a mesh without vertices")
        if not np.isfinite(vertices_N3).all():
            raise EmptyOutput("the teacher's mesh has vertices that are not finite")
        turned_N3 = vertices_N3.astype(np.float64) @ rotation_33.T
        low, high = turned_N3.min(axis=0), turned_N3.max(axis=0)
        if (longest := float((high - low).max())) <= 0:
            raise EmptyOutput("the teacher's mesh is one point")
        return Placement(rotation_33, (low + high) / 2, 1 / longest)

    @staticmethod
    def of_gaussians(gaussians: Gaussians, rotation_33: npt.NDArray[np.float64]) -> Placement:
        """The one that brings the centres of what can be seen into the canonical box: for want of a mesh.

        Raises EmptyOutput.
        """
        seen_N = gaussians.opacity_logits_N > FAINTEST_LOGIT
        means_N3 = gaussians.means_N3[seen_N]
        if len(means_N3) == 0 or not np.isfinite(means_N3).all():
            raise EmptyOutput("the Gaussians are all transparent, or have centres that are not finite")
        return Placement.of(means_N3, rotation_33)

    def points(self, points_N3: npt.NDArray[Any]) -> FloatArray:
        """Canonical points (N, 3)."""
        placed: FloatArray = (self.scale * (points_N3.astype(np.float64) @ self.rotation_33.T - self.centre_3)).astype(
            np.float32
        )
        return placed

    def mesh(self, mesh: Mesh) -> Mesh:
        return Mesh(self.points(mesh.vertices_N3), mesh.faces_F3, mesh.colours_N4)

    def gaussians(self, gaussians: Gaussians) -> Gaussians:
        """Centres, sizes and axes; colours of degree 0 look the same from everywhere."""
        return Gaussians(
            means_N3=self.points(gaussians.means_N3),
            log_scales_N3=(gaussians.log_scales_N3 + np.log(self.scale)).astype(np.float32),
            rotations_N4=_turned(gaussians.rotations_N4, self.rotation_33),
            opacity_logits_N=gaussians.opacity_logits_N,
            sh_dc_N3=gaussians.sh_dc_N3,
        )

    def figures(self) -> Mapping[str, Any]:
        """For the record: what leads from the teacher's own frame to the canonical one."""
        return {
            "rotation": self.rotation_33.astype(int).tolist(),
            "centre": [round(float(value), 6) for value in self.centre_3],
            "scale": round(self.scale, 6),
        }


def _turned(rotations_N4: FloatArray, rotation_33: npt.NDArray[np.float64]) -> FloatArray:
    """Unit quaternions (N, 4), wxyz, of the same axes after the rotation. Input of any length but 0."""
    from scipy.spatial.transform import Rotation

    a, b, c, d = Rotation.from_matrix(rotation_33).as_quat(scalar_first=True)
    w, x, y, z = rotations_N4.astype(np.float64).T
    product_N4 = np.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ],
        axis=1,
    )
    lengths_N1 = np.linalg.norm(product_N4, axis=1, keepdims=True)
    unit: FloatArray = (product_N4 / np.maximum(lengths_N1, 1e-30)).astype(np.float32)
    return unit

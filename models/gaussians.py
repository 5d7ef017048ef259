"""Gaussian splats and their PLY file, as 3D Gaussian Splatting (Kerbl et al. 2023) and its viewers lay it out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.geometry import FloatArray, Mesh, face_areas, sample_surface

SH_C0 = 0.28209479177387814
"""The constant spherical harmonic: RGB = .5 + SH_C0 * sh_dc."""

_FIELDS = (
    "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity",
    "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
)  # fmt: skip
_FORMAT = "format binary_little_endian 1.0"


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians in the canonical frame; every array is float32.

    means_N3: centres. log_scales_N3: log of the standard deviations along their axes. rotations_N4: unit quaternions
    (w, x, y, z) that turn the axes into the world. opacity_logits_N: sigmoid gives opacity. sh_dc_N3: see SH_C0.
    """

    means_N3: FloatArray
    log_scales_N3: FloatArray
    rotations_N4: FloatArray
    opacity_logits_N: FloatArray
    sh_dc_N3: FloatArray

    def to_ply(self) -> bytes:
        """The 3DGS PLY, in this frame (no transform); normals are zero, as in the reference code."""
        count = len(self.means_N3)
        properties = [f"property float {name}" for name in _FIELDS]
        header = ["ply", _FORMAT, f"element vertex {count}", *properties, "end_header"]
        rows = np.concatenate(
            [
                self.means_N3,
                np.zeros((count, 3)),
                self.sh_dc_N3,
                self.opacity_logits_N[:, None],
                self.log_scales_N3,
                self.rotations_N4,
            ],
            axis=1,
        )
        return ("\n".join(header) + "\n").encode() + rows.astype("<f4").tobytes()

    @staticmethod
    def from_ply(data: bytes) -> Gaussians:
        """Read a binary little-endian 3DGS PLY; other float properties (f_rest_*) are passed over. Raises BadInput."""
        header, marker, body = data.partition(b"end_header\n")
        lines = header.decode("ascii", "replace").split("\n")
        if not marker or lines[0] != "ply" or _FORMAT not in lines:
            raise BadInput("not a binary little-endian PLY")
        elements = [line.split() for line in lines if line.startswith("element ")]
        if len(elements) != 1 or elements[0][:2] != ["element", "vertex"] or not elements[0][2].isdigit():
            raise BadInput("a 3DGS PLY has one element, vertex")
        properties = [line.split()[1:] for line in lines if line.startswith("property ")]
        for words in properties:
            if len(words) != 2 or words[0] not in ("float", "float32"):
                raise BadInput(f"a 3DGS PLY has float properties only, not {' '.join(words)!r}")
        names = [name for _, name in properties]
        if missing := [name for name in _FIELDS if name not in names and not name.startswith("n")]:
            raise BadInput(f"the PLY lacks {', '.join(missing)}: not a 3DGS file")
        count = int(elements[0][2])
        if len(body) != count * len(names) * 4:
            raise BadInput(f"the PLY holds {len(body)} bytes of {count * len(names) * 4}: cut short or damaged")
        table = np.frombuffer(body, "<f4").reshape(count, len(names))

        def columns(*wanted: str) -> FloatArray:
            return np.ascontiguousarray(table[:, [names.index(name) for name in wanted]], np.float32)

        return Gaussians(
            means_N3=columns("x", "y", "z"),
            log_scales_N3=columns("scale_0", "scale_1", "scale_2"),
            rotations_N4=columns("rot_0", "rot_1", "rot_2", "rot_3"),
            opacity_logits_N=columns("opacity")[:, 0],
            sh_dc_N3=columns("f_dc_0", "f_dc_1", "f_dc_2"),
        )


def splats_on(
    mesh: Mesh,
    normals_N3: npt.NDArray[np.float64],
    colours_N3: FloatArray,
    num_gaussians: int,
    rng: np.random.Generator,
) -> Gaussians:
    """Flat Gaussians over the surface, area-uniform, wide enough to close it, coloured as the nearest vertex."""
    from scipy.spatial import cKDTree

    means_N3, _ = sample_surface(mesh, num_gaussians, rng)
    _, nearest_N = cKDTree(mesh.vertices_N3).query(means_N3)
    spacing = np.sqrt(face_areas(mesh).sum() / num_gaussians)
    log_scales_N3 = np.tile(np.log([0.7 * spacing, 0.7 * spacing, 0.1 * spacing]), (num_gaussians, 1))
    opacity = 0.95
    return Gaussians(
        means_N3=means_N3,
        log_scales_N3=log_scales_N3.astype(np.float32),
        rotations_N4=rotations_to(normals_N3[nearest_N].astype(np.float32)),
        opacity_logits_N=np.full(num_gaussians, np.log(opacity / (1 - opacity)), np.float32),
        sh_dc_N3=sh_dc_from_rgb(colours_N3[nearest_N]),
    )


def sh_dc_from_rgb(rgb_N3: npt.NDArray[np.float32]) -> FloatArray:
    """Spherical harmonic of degree 0 for colours (N, 3) in [0, 1]."""
    coefficients: FloatArray = ((rgb_N3 - 0.5) / SH_C0).astype(np.float32)
    return coefficients


def rotations_to(normals_N3: FloatArray) -> FloatArray:
    """Quaternions (N, 4), wxyz, of the shortest turns from +Z to unit normals."""
    x, y, z = normals_N3.astype(np.float64).T
    half_turn = z < -1 + 1e-8  # no shortest turn: about X
    quaternions = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=1)
    quaternions[half_turn] = (0, 1, 0, 0)
    unit: FloatArray = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).astype(np.float32)
    return unit

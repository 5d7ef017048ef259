"""The visual hull: the largest shape that fits every silhouette (Laurentini 1994), coloured from the views.

    teacher = create(Params(), Site())
    mesh, gaussians = teacher.generate(views, seed=0).casts     # the mesh is closed, the Gaussians lie on it

A classical method that needs no weights. It cannot see concavities that no silhouette shows. Silhouettes become signed
distances (sub-pixel, from the antialiased alpha), whose minimum over the views is the hull's. Photos without cameras
need names: front or back, and left or right. They are taken to be seen from there (`models.nominal_cameras`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.cameras import NAMED_AZIMUTHS_DEG, Camera
from models.errors import BadInput
from models.gaussians import splats_on
from models.geometry import ByteArray, FloatArray, Mesh, canonical, opaque, vertex_normals
from models.isosurface import main_components, zero_level
from models.nominal_cameras import nominal_cameras, two_sides
from models.params import Block
from models.silhouettes import silhouette_distance
from models.teachers import Site, TeacherOutput
from models.views import Views

NEEDS_CAMERAS = False
LICENCE = "none of its own: the outputs are derived from the views"

HALF_BOX = 0.5
COARSE = 48
"""Resolution at which nominal cameras are tried."""
NEAR = 1e-3
"""Depth under which a point counts as behind the camera."""


class Params(Block):
    """The `teachers.visual_hull` block."""

    resolution: int = Field(96, ge=16, le=512)
    """Cells along the canonical box; its surface is finer than a cell."""
    alpha_threshold: float = Field(0.5, gt=0, lt=1)
    """Coverage at which a silhouette ends."""
    smoothing_cells: float = Field(0.3, ge=0, le=4)
    """Standard deviation of a Gaussian filter over the volume, in cells; rounds creases, thins thin parts."""
    min_component_share: float = Field(0.01, ge=0, le=1)
    """Pieces of a smaller share of the largest piece's volume are dropped."""
    num_gaussians: int = Field(8192, ge=1)
    """Splats on the surface."""


def create(params: Params, site: Site) -> VisualHull:
    """The teacher. It runs on the CPU whatever the site's device."""
    return VisualHull(params)


def unfit(names: Collection[str], has_cameras: bool) -> str | None:
    """Why nothing can be carved of views with these names; None where it can."""
    if has_cameras or two_sides(names):
        return None
    return "it needs cameras, or photos named front or back and left or right (teach.teacher: classical takes any)"


class VisualHull:
    """Carves silhouettes; see the module."""

    licence = LICENCE

    def __init__(self, params: Params) -> None:
        self.params = params

    def close(self) -> None:
        """There is nothing to end."""

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> TeacherOutput:
        """The hull of the views. `seed` only places the Gaussians; it has one rung.

        Of photos without cameras its quality says from what elevation they seem to be taken, and how well they agree.
        Raises BadInput for views that are `unfit` or show no object, EmptyOutput where they share no point.
        """
        if (reason := unfit(views.names, views.cameras is not None)) is not None:
            raise BadInput(f"no visual hull of {', '.join(views.names)}: {reason}")
        if views.cameras is not None:
            mesh, colours_N3 = self._hull(views, views.cameras)
            return self._output(mesh, colours_N3, seed)
        named = views.select(tuple(NAMED_AZIMUTHS_DEG))
        nominal = nominal_cameras(named.names, named.rgba_VHW4[..., 3], lambda cameras: self._coarse(named, cameras))
        mesh, colours_N3 = self._hull(named, nominal.views)
        quality = {"elevation_deg": nominal.elevation_deg, "agreement": round(nominal.agreement, 6)}
        return replace(self._output(canonical(mesh), colours_N3, seed), quality=quality)

    def _hull(self, views: Views, cameras: Sequence[Camera]) -> tuple[Mesh, FloatArray]:
        """The hull, where the cameras place it, and the colours of its vertices."""
        params = self.params
        volume = carve(views.rgba_VHW4[..., 3], views.names, cameras, params.resolution, params.alpha_threshold)
        mesh = surface(volume, params.resolution, params.smoothing_cells, params.min_component_share)
        tolerance = 2.5 / params.resolution
        return mesh, project_colours(mesh, vertex_normals(mesh), views.rgba_VHW4, cameras, tolerance)

    def _output(self, mesh: Mesh, colours_N3: FloatArray, seed: int) -> TeacherOutput:
        rng = np.random.default_rng(seed)
        gaussians = splats_on(mesh, vertex_normals(mesh), colours_N3, self.params.num_gaussians, rng)
        return TeacherOutput((Mesh(mesh.vertices_N3, mesh.faces_F3, opaque(colours_N3)), gaussians))

    def _coarse(self, views: Views, cameras: Sequence[Camera]) -> Mesh:
        alpha_VHW, threshold = views.rgba_VHW4[..., 3], self.params.alpha_threshold
        return surface(carve(alpha_VHW, views.names, cameras, COARSE, threshold), COARSE, 0.0, 0.0)


def carve(
    alpha_VHW: ByteArray, names: Sequence[str], cameras: Sequence[Camera], resolution: int, alpha_threshold: float
) -> FloatArray:
    """Distance to the hull's surface, positive inside, in world units, on a lattice of (resolution + 3)^3 points.

    The lattice has `resolution` cells over the canonical box and one more on each side, which is outside. Values are
    exact near the surface only: farther outside they stop at the view that excluded the point. Raises BadInput.
    """
    silhouettes = []
    for name, alpha_HW in zip(names, alpha_VHW, strict=True):
        if (silhouette_HW := silhouette_distance(alpha_HW, alpha_threshold)) is None:
            raise BadInput(f"view {name!r} shows no object: its silhouette is empty")
        silhouettes.append(silhouette_HW)
    side, band = resolution + 3, 3 / resolution
    lattice = _near_blocks(silhouettes, cameras, resolution, band)
    axis = _axis(resolution)
    points_N3 = np.stack([axis[index] for index in np.unravel_index(lattice, (side, side, side))], axis=1)
    volume = np.full(side**3, -band, np.float32)
    volume[lattice] = _hull_distance(points_N3, silhouettes, cameras, band)
    return volume.reshape(side, side, side)


def _near_blocks(
    silhouettes: Sequence[FloatArray], cameras: Sequence[Camera], resolution: int, band: float
) -> npt.NDArray[np.int64]:
    """Flat indices of the lattice points in blocks of 4^3 that may come within `band` of the hull."""
    side = resolution + 3
    num_blocks = -(-side // 4)
    centre = (np.arange(num_blocks) * 4 + 0.5) / resolution - HALF_BOX
    centres_N3 = np.stack(np.meshgrid(centre, centre, centre, indexing="ij"), axis=-1).reshape(-1, 3)
    radius = 1.5 * np.sqrt(3) / resolution
    reach = 1.3 * radius + band  # off the optical axis a step in the world is up to 1.3 times as long in the image
    near = (_hull_distance(centres_N3, silhouettes, cameras, reach) > -reach).reshape((num_blocks,) * 3)
    for dimension in range(3):
        near = np.repeat(near, 4, axis=dimension)
    return np.flatnonzero(near[:side, :side, :side])


def _hull_distance(
    points_N3: npt.NDArray[np.float64], silhouettes: Sequence[FloatArray], cameras: Sequence[Camera], band: float
) -> FloatArray:
    """Least distance (N,) over the box and the silhouettes; a point goes no further once it is `band` outside."""
    distance_N: FloatArray = (HALF_BOX - np.maximum.reduce(np.abs(points_N3).T)).astype(np.float32)
    alive_N = np.flatnonzero(distance_N > -band)
    for silhouette_HW, camera in zip(silhouettes, cameras, strict=True):
        pixels_N2, depth_N = camera.project(points_N3[alive_N])
        focal_px = np.sqrt(camera.intrinsics_33[0, 0] * camera.intrinsics_33[1, 1])
        world_N = _bilinear(silhouette_HW[..., None], pixels_N2)[:, 0] * (depth_N / focal_px)
        world_N[depth_N < NEAR] = -band
        distance_N[alive_N] = np.minimum(distance_N[alive_N], world_N)
        alive_N = alive_N[distance_N[alive_N] > -band]
    distance_N[distance_N < -band] = -band
    return distance_N


def surface(volume: FloatArray, resolution: int, smoothing_cells: float, min_component_share: float) -> Mesh:
    """Closed mesh of the volume's zero level. Raises EmptyOutput when nothing lies inside."""
    from scipy import ndimage

    if smoothing_cells > 0:
        volume = ndimage.gaussian_filter(volume, smoothing_cells, mode="nearest")
    vertices_N3, faces_F3 = zero_level(volume, 1 / resolution)
    positions_N3 = vertices_N3 / resolution + _axis(resolution)[0]
    mesh = Mesh(positions_N3.clip(-HALF_BOX, HALF_BOX).astype(np.float32), faces_F3)
    return main_components(mesh, min_component_share)


def project_colours(
    mesh: Mesh,
    normals_N3: npt.NDArray[np.float64],
    rgba_VHW4: ByteArray,
    cameras: Sequence[Camera],
    tolerance: float,
) -> FloatArray:
    """Colours (N, 3) in [0, 1] of the vertices: a mean over the views that see them, mostly the most frontal ones.

    Vertices hidden in every view (over `tolerance` behind the mesh's own nearest ones) take what is in front of them.
    """
    weight_N = np.full(len(mesh.vertices_N3), 1e-12)
    colour_N3 = 0.5 * np.repeat(weight_N[:, None], 3, axis=1)
    points_N3 = mesh.vertices_N3.astype(np.float64)
    for rgba_HW4, camera in zip(rgba_VHW4, cameras, strict=True):
        pixels_N2, depth_N = camera.project(points_N3)
        to_camera_N3 = camera.centre_3 - points_N3
        to_camera_N3 /= np.linalg.norm(to_camera_N3, axis=1, keepdims=True)
        frontal_N = np.einsum("nd,nd->n", normals_N3, to_camera_N3).clip(0)
        pixel_world = float(np.median(depth_N)) / camera.intrinsics_33[0, 0]
        visible_N = depth_N <= _nearest_depth(pixels_N2 * pixel_world / tolerance, depth_N) + tolerance
        alpha_HW1 = rgba_HW4[..., 3:].astype(np.float32) / 255
        sampled_N4 = _bilinear(np.concatenate([rgba_HW4[..., :3] / 255 * alpha_HW1, alpha_HW1], axis=-1), pixels_N2)
        confidence_N = (frontal_N**4 * visible_N + 1e-6 * (frontal_N + 1e-2)) * sampled_N4[:, 3] ** 3
        weight_N += confidence_N * sampled_N4[:, 3]
        colour_N3 += confidence_N[:, None] * sampled_N4[:, :3]
    colours: FloatArray = (colour_N3 / weight_N[:, None]).clip(0, 1).astype(np.float32)
    return colours


def _axis(resolution: int) -> npt.NDArray[np.float64]:
    return np.arange(-1, resolution + 2) / resolution - HALF_BOX


def _bilinear(image_HWC: FloatArray, pixels_N2: npt.NDArray[np.float64]) -> FloatArray:
    """Values (N, C) at pixel positions whose centres lie at half-integers; clamped at the border."""
    height, width, channels = image_HWC.shape
    x = (pixels_N2[:, 0] - 0.5).clip(0, width - 1).astype(np.float32)
    y = (pixels_N2[:, 1] - 0.5).clip(0, height - 1).astype(np.float32)
    left, top = np.minimum(x.astype(np.int32), width - 2), np.minimum(y.astype(np.int32), height - 2)
    u, v = (x - left)[:, None], (y - top)[:, None]
    flat_PC = image_HWC.reshape(-1, channels)
    corner = top * width + left
    upper = flat_PC[corner] * (1 - u) + flat_PC[corner + 1] * u
    lower = flat_PC[corner + width] * (1 - u) + flat_PC[corner + width + 1] * u
    values: FloatArray = upper * (1 - v) + lower * v
    return values


def _nearest_depth(cells_N2: npt.NDArray[np.float64], depth_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each point the least depth of all points in its cell of the image: a depth buffer of points."""
    cell_N2 = np.floor(cells_N2).astype(np.int64)
    cell_N2 -= cell_N2.min(axis=0)
    cell_N = cell_N2[:, 1] * (cell_N2[:, 0].max() + 1) + cell_N2[:, 0]
    nearest = np.full(int(cell_N.max()) + 1, np.inf)
    np.minimum.at(nearest, cell_N, depth_N)
    found: npt.NDArray[np.float64] = nearest[cell_N]
    return found

"""The visual hull: the largest shape that fits every silhouette (Laurentini 1994), coloured from the views.

    teacher = create(Params(), Site())
    mesh, gaussians = teacher.generate(views, seed=0).casts     # views with cameras; the mesh is closed

A classical method that needs no weights. It cannot see concavities that no silhouette shows, and it needs cameras.
Silhouettes become signed distances (sub-pixel, from the antialiased alpha), whose minimum over the views is the hull's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.cameras import Camera
from models.errors import BadInput, EmptyOutput
from models.gaussians import Gaussians, rotations_to, sh_dc_from_rgb
from models.geometry import ByteArray, FloatArray, Mesh, face_areas, sample_surface
from models.params import Block
from models.teachers import Site, TeacherOutput
from models.topology import components, face_volumes
from models.views import Views

NEEDS_CAMERAS = True
LICENCE = "none of its own: the outputs are derived from the views"

HALF_BOX = 0.5
FAINT = 0.02
"""Coverage this close to none or all counts as such."""
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


class VisualHull:
    """Carves silhouettes; see the module."""

    licence = LICENCE

    def __init__(self, params: Params) -> None:
        self.params = params

    def close(self) -> None:
        """There is nothing to end."""

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> TeacherOutput:
        """The hull of the views. `seed` only places the Gaussians; it has one rung.

        Raises BadInput without cameras or where a silhouette is empty, EmptyOutput where they share no point.
        """
        if views.cameras is None:
            raise BadInput("a visual hull needs cameras, and these views have none")
        params = self.params
        volume = carve(views.rgba_VHW4[..., 3], views.names, views.cameras, params.resolution, params.alpha_threshold)
        mesh = surface(volume, params.resolution, params.smoothing_cells, params.min_component_share)
        normals_N3 = vertex_normals(mesh)
        colours_N3 = project_colours(mesh, normals_N3, views.rgba_VHW4, views.cameras, 2.5 / params.resolution)
        coloured = Mesh(mesh.vertices_N3, mesh.faces_F3, _rgba(colours_N3))
        rng = np.random.default_rng(seed)
        return TeacherOutput((coloured, splats(mesh, normals_N3, colours_N3, params.num_gaussians, rng)))


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


def silhouette_distance(alpha_HW: ByteArray, threshold: float) -> FloatArray | None:
    """Signed distance (H, W) in pixels of pixel centres to the silhouette's edge, positive inside; None if it is empty.

    Edge pixels are partly covered, which tells where in the pixel the edge runs: distances are measured from there.
    Exact for edges along rows and columns, within a third of a pixel for others.
    """
    from scipy import ndimage

    coverage_HW = alpha_HW.astype(np.float32) / 255
    inside_HW = coverage_HW >= threshold
    if not inside_HW.any():
        return None
    partial_HW = (coverage_HW > FAINT) & (coverage_HW < 1 - FAINT)
    beside_empty_HW = ndimage.minimum_filter(coverage_HW, footprint=_CROSS, mode="nearest") <= FAINT
    edge_HW = partial_HW | ((coverage_HW >= 1 - FAINT) & beside_empty_HW)
    if not edge_HW.any():
        return np.full(alpha_HW.shape, float(max(alpha_HW.shape)), np.float32)
    distance_HW, (row_HW, column_HW) = ndimage.distance_transform_edt(~edge_HW, return_indices=True)
    depth_in_pixel_HW = coverage_HW[row_HW, column_HW] - threshold
    signed_HW: FloatArray = (np.where(inside_HW, distance_HW, -distance_HW) + depth_in_pixel_HW).astype(np.float32)
    return signed_HW


def surface(volume: FloatArray, resolution: int, smoothing_cells: float, min_component_share: float) -> Mesh:
    """Closed mesh of the volume's zero level. Raises EmptyOutput when nothing lies inside."""
    from scipy import ndimage
    from skimage.measure import marching_cubes

    if smoothing_cells > 0:
        volume = ndimage.gaussian_filter(volume, smoothing_cells, mode="nearest")
    inside = volume > 0
    if not inside.any():
        raise EmptyOutput("nothing is left of the volume: the silhouettes share no point, or the object is too thin")
    start, stop = _bounds(inside)
    block = np.ascontiguousarray(volume[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))])
    floor = np.float32(1e-3 / resolution)  # off the lattice points: the level never passes through a vertex
    block = np.where(block > 0, np.maximum(block, floor), np.minimum(block, -floor))
    vertices, faces, _, _ = marching_cubes(block, 0.0)
    positions = (vertices + start) / resolution + _axis(resolution)[0]
    outward_F3 = np.ascontiguousarray(faces[:, ::-1], np.int32)  # skimage winds them for arrays in (z, y, x) order
    mesh = Mesh(positions.clip(-HALF_BOX, HALF_BOX).astype(np.float32), outward_F3)
    return _main_components(mesh, min_component_share)


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


def splats(
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


def vertex_normals(mesh: Mesh) -> npt.NDArray[np.float64]:
    """Area-weighted unit normals (N, 3)."""
    corners_F33 = mesh.vertices_N3.astype(np.float64)[mesh.faces_F3]
    cross_F3 = np.cross(corners_F33[:, 1] - corners_F33[:, 0], corners_F33[:, 2] - corners_F33[:, 0])
    corner = mesh.faces_F3.reshape(-1)
    count = len(mesh.vertices_N3)
    normals = np.stack([np.bincount(corner, np.repeat(cross_F3[:, axis], 3), count) for axis in range(3)], axis=1)
    unit: npt.NDArray[np.float64] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return unit


_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def _axis(resolution: int) -> npt.NDArray[np.float64]:
    return np.arange(-1, resolution + 2) / resolution - HALF_BOX


def _bounds(inside: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The box of the inside, and one lattice point more on each side (which the lattice's own margin provides)."""
    spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    start = np.array([span[0] - 1 for span in spans]).clip(0)
    return start, np.array([span[-1] + 2 for span in spans])


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


def _main_components(mesh: Mesh, min_share: float) -> Mesh:
    """The pieces whose volume is at least min_share of the largest one's. Enclosed bubbles (negative volume) go."""
    piece_N = components(mesh)
    first_corner_F = mesh.faces_F3[:, 0]
    volumes = np.bincount(piece_N[first_corner_F], face_volumes(mesh))
    kept_N = (volumes >= max(min_share * volumes.max(), 1e-12))[piece_N]
    if not kept_N.any():
        raise EmptyOutput("no piece of the hull encloses a volume")
    renumbered_N = np.cumsum(kept_N, dtype=np.int32) - 1
    return Mesh(mesh.vertices_N3[kept_N], renumbered_N[mesh.faces_F3[kept_N[first_corner_F]]])


def _rgba(colours_N3: FloatArray) -> ByteArray:
    opaque = np.concatenate([colours_N3, np.ones((len(colours_N3), 1), np.float32)], axis=1)
    rgba: ByteArray = np.rint(opaque * 255).astype(np.uint8)
    return rgba

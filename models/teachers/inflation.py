"""Silhouette inflation: one view blown up to a rounded, closed shape, coloured from that view.

    teacher = create(Params(), Site())
    mesh, gaussians = teacher.generate(views, seed=0).casts     # of the first of the views; it needs no camera

A classical method that needs no weights. Over the silhouette it solves Poisson's equation, laplace(u) = -4 with u = 0
at the rim; the surface lies `depth` * sqrt(u) before and behind the image plane (Sykora et al. 2014, "Ink-and-Ray").
With a `depth` of 1 a disc becomes a ball, and a long bar an elliptic rod, sqrt(2) as deep as wide. Holes stay holes,
and separate pieces stay separate.

It guesses. Its back is its front mirrored, it knows no concavity and no flat side, and what a photo's border cuts off
is rounded there. The front shows the view's colours; the colours of the back are those of the rim, continued smoothly,
because what is seen at the rim is what goes round.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.cameras import NAMED_AZIMUTHS_DEG, orbit_camera
from models.errors import BadInput, EmptyOutput
from models.gaussians import splats_on
from models.geometry import ByteArray, FloatArray, IntArray, Mesh, canonical, opaque, vertex_normals
from models.isosurface import zero_level
from models.params import Block
from models.silhouettes import silhouette_distance
from models.teachers import Site, TeacherOutput
from models.views import Views

NEEDS_CAMERAS = False
LICENCE = "none of its own: the outputs are derived from the view"

Array = npt.NDArray[np.float64]
"""Y, X: the lattice's rows (downward) and columns. Z: its layers, towards the viewer."""

MARGIN = 2
"""Lattice points around the silhouette's box."""
LEAST_STEP = 0.05
"""Cells from a lattice point to the rim, at least: a smaller step would make the equations ill-conditioned."""
MIXED_PX, SOLID, LENT_PX = 1.5, 242, 5.0
"""Pixels within MIXED_PX of the rim, or of an alpha under SOLID, are mixed with the background: they take the colour of
the nearest other pixel within LENT_PX. A part so thin that it has none keeps its own."""


class Params(Block):
    """The `teachers.inflation` block."""

    resolution: int = Field(128, ge=16, le=512)
    """Cells along the longer side of the silhouette."""
    depth: float = Field(0.9, gt=0, le=2)
    """How deep a round silhouette becomes, over its width. 0.9 fits real objects best: docs/experiments/photos.md."""
    alpha_threshold: float = Field(0.5, gt=0, lt=1)
    """Coverage at which the silhouette ends."""
    min_component_share: float = Field(0.002, ge=0, le=1)
    """Pieces of a smaller share of the largest piece's area are dropped: specks of a matte."""
    num_gaussians: int = Field(8192, ge=1)
    """Splats on the surface."""


def create(params: Params, site: Site) -> Inflation:
    """The teacher. It runs on the CPU whatever the site's device."""
    return Inflation(params)


class Inflation:
    """Inflates a silhouette; see the module."""

    licence = LICENCE

    def __init__(self, params: Params) -> None:
        self.params = params

    def close(self) -> None:
        """There is nothing to end."""

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> TeacherOutput:
        """The first view, inflated; it lies where its camera or its name says. `seed` only places the Gaussians.

        Raises BadInput where that view shows no object.
        """
        seen, colours_N3 = inflate(views.rgba_VHW4[0], views.names[0], self.params)
        mesh = _placed(seen, views)
        rng = np.random.default_rng(seed)
        gaussians = splats_on(mesh, vertex_normals(mesh), colours_N3, self.params.num_gaussians, rng)
        return TeacherOutput((Mesh(mesh.vertices_N3, mesh.faces_F3, opaque(colours_N3)), gaussians))


def inflate(rgba_HW4: ByteArray, name: str, params: Params) -> tuple[Mesh, FloatArray]:
    """A closed mesh that looks from +Z as the image does, and the colours (N, 3) of its vertices in [0, 1].

    Raises BadInput, naming the view, where the image shows no object, EmptyOutput where it is a hair.
    """
    rgba_HW4 = np.pad(rgba_HW4, ((1, 1), (1, 1), (0, 0)))
    alpha_HW = _without_specks(rgba_HW4[..., 3], params)
    signed_HW = silhouette_distance(alpha_HW, params.alpha_threshold)
    if signed_HW is None:
        raise BadInput(f"view {name!r} shows no object: its silhouette is empty")
    rows_Y, columns_X, cell_px = _lattice(signed_HW >= 0, params.resolution)
    grid_2YX = np.stack(np.meshgrid(rows_Y, columns_X, indexing="ij"))
    signed_YX = _sample(signed_HW, grid_2YX) / cell_px
    if not (signed_YX > 0).any():
        raise EmptyOutput(f"view {name!r}: its silhouette is thinner than a pixel everywhere")
    domain = _Domain(signed_YX)
    front_YX3 = _sample(_clean_colours(rgba_HW4, signed_HW), grid_2YX)
    back_YX3 = domain.harmonic(front_YX3)
    y_N, x_N, z_N, faces_F3 = _surface(params.depth**2 * domain.squared_heights())
    colours_YX6 = np.concatenate([front_YX3, back_YX3], axis=-1)
    front_N3, back_N3 = np.split(_sample(colours_YX6, np.stack([y_N, x_N])), 2, axis=-1)
    colours_N3 = np.where(z_N[:, None] >= 0, front_N3, back_N3) / 255
    positions_N3 = np.stack([x_N, -y_N, z_N], axis=1)
    return Mesh(positions_N3.astype(np.float32), faces_F3), colours_N3.astype(np.float32)


def _without_specks(alpha_HW: ByteArray, params: Params) -> ByteArray:
    """The silhouette without pieces that are much smaller than its largest."""
    from scipy import ndimage

    piece_HW, count = ndimage.label(alpha_HW >= params.alpha_threshold * 255, np.ones((3, 3)))
    areas = np.bincount(piece_HW.reshape(-1), minlength=count + 1)[1:]
    small = np.flatnonzero(areas < params.min_component_share * areas.max(initial=0)) + 1
    near_small_HW = ndimage.binary_dilation(np.isin(piece_HW, small)) & (piece_HW == 0)
    return np.where(np.isin(piece_HW, small) | near_small_HW, 0, alpha_HW).astype(np.uint8)


def _lattice(inside_HW: npt.NDArray[np.bool_], resolution: int) -> tuple[Array, Array, float]:
    """Pixel rows (Y,) and columns (X,) of the lattice over the silhouette's box, and the cell's side in pixels."""
    spans = [np.flatnonzero(inside_HW.any(axis=1)), np.flatnonzero(inside_HW.any(axis=0))]
    sizes = [int(np.ptp(span)) + 1 for span in spans]
    cell_px = max(sizes) / resolution
    axes = []
    for span, size in zip(spans, sizes, strict=True):
        num_cells = int(np.ceil(size / cell_px)) + 2 * MARGIN
        centre = (span[0] + span[-1]) / 2
        axes.append(centre + (np.arange(num_cells + 1) - num_cells / 2) * cell_px)
    return axes[0], axes[1], cell_px


class _Domain:
    """The lattice points inside a silhouette and Laplace's operator on them; the rim runs between lattice points.

    Next to the rim the operator uses the rim's distance along each axis (Gibou et al. 2002), so that a slanted rim
    makes no steps. signed_YX: distance to the rim, in cells, positive inside.
    """

    def __init__(self, signed_YX: Array) -> None:
        from scipy.sparse import coo_array
        from scipy.sparse.linalg import splu

        self.inside_YX = signed_YX > 0
        self._signed_YX = signed_YX
        points_N = np.flatnonzero(self.inside_YX)
        number = np.full(signed_YX.size, -1)
        number[points_N] = np.arange(len(points_N))
        signed = signed_YX.reshape(-1)
        diagonal_N = np.zeros(len(points_N))
        links: list[npt.NDArray[np.int64]] = []
        self._rim: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array]] = []
        for step in (-1, 1, -signed_YX.shape[1], signed_YX.shape[1]):
            neighbours_N = points_N + step
            linked_N = number[neighbours_N] >= 0
            links.append(np.stack([np.flatnonzero(linked_N), number[neighbours_N[linked_N]]]))
            here, there = np.flatnonzero(~linked_N), neighbours_N[~linked_N]
            to_rim = signed[points_N[here]] / (signed[points_N[here]] - signed[there])
            weights = 1 / np.maximum(to_rim, LEAST_STEP)
            diagonal_N[linked_N] += 1
            diagonal_N[here] += weights
            self._rim.append((here, there, weights))
        row_L, column_L = np.concatenate(links, axis=1)
        every = np.arange(len(points_N))
        values = np.concatenate([np.full(len(row_L), -1.0), diagonal_N])
        matrix = coo_array((values, (np.r_[row_L, every], np.r_[column_L, every])))
        self._solver = splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})

    def squared_heights(self) -> Array:
        """u (Y, X) of laplace(u) = -4 in squared cells; outside it goes on downward as steeply as it meets the rim."""
        from scipy import ndimage

        u_YX = np.zeros(self.inside_YX.shape)
        u_YX[self.inside_YX] = self._solver.solve(np.full(np.count_nonzero(self.inside_YX), 4.0))
        nearest = ndimage.distance_transform_edt(~self.inside_YX, return_distances=False, return_indices=True)
        slope_YX = (u_YX / np.maximum(self._signed_YX, LEAST_STEP))[tuple(nearest)]
        return np.where(self.inside_YX, u_YX, slope_YX * self._signed_YX)

    def harmonic(self, values_YXC: Array) -> Array:
        """The values (Y, X, C), inside replaced by what continues those beyond the rim most smoothly."""
        flat_PC = values_YXC.reshape(-1, values_YXC.shape[-1])
        source_NC = np.zeros((np.count_nonzero(self.inside_YX), flat_PC.shape[1]))
        for here, there, weights in self._rim:
            source_NC[here] += weights[:, None] * flat_PC[there]
        result = values_YXC.copy()
        result[self.inside_YX] = self._solver.solve(source_NC)
        return result


def _surface(squared_YX: Array) -> tuple[Array, Array, Array, IntArray]:
    """The closed surface z^2 = squared: rows, columns and heights (N,) of its vertices, in cells, and its faces."""
    num_layers = int(np.ceil(np.sqrt(squared_YX.max()))) + 1
    z_Z = np.arange(-num_layers, num_layers + 1)
    vertices_N3, faces_F3 = zero_level((squared_YX[..., None] - z_Z**2).astype(np.float32), 1.0)
    y_N, x_N, z_N = vertices_N3.T
    z_N = z_N - num_layers
    row_N, column_N = y_N.astype(np.int64), x_N.astype(np.int64)
    over_point_N = (y_N == row_N) & (x_N == column_N)  # there the height is known, and need not be interpolated
    height_N = np.sqrt(squared_YX[row_N, column_N].clip(0))
    return y_N, x_N, np.where(over_point_N, np.copysign(height_N, z_N), z_N), faces_F3


def _clean_colours(rgba_HW4: ByteArray, signed_HW: FloatArray) -> Array:
    """The object's colours (H, W, 3) without the background's share at the rim, continued beyond it."""
    from scipy import ndimage

    mixed_HW = (signed_HW < MIXED_PX) | (rgba_HW4[..., 3] < SOLID)
    distance_HW, pure_2HW = ndimage.distance_transform_edt(mixed_HW, return_indices=True)
    outside_HW = signed_HW <= 0
    nearest_2HW = ndimage.distance_transform_edt(outside_HW, return_distances=False, return_indices=True)
    rgb_HW3 = rgba_HW4[..., :3]
    cleaned_HW3 = np.where((distance_HW <= LENT_PX)[..., None], rgb_HW3[tuple(pure_2HW)], rgb_HW3)
    continued_HW3: Array = cleaned_HW3[tuple(nearest_2HW)].astype(np.float64)
    return continued_HW3


def _sample(values: npt.NDArray[np.floating], place_2: Array) -> Array:
    """Bilinear values of an image (H, W) or (H, W, C) at rows and columns (2, ...), clamped at its border."""
    from scipy import ndimage

    channels = np.moveaxis(np.atleast_3d(values), -1, 0)
    sampled = np.stack([ndimage.map_coordinates(channel, place_2, order=1, mode="nearest") for channel in channels], -1)
    result: Array = (sampled if values.ndim == 3 else sampled[..., 0]).astype(np.float64)
    return result


def _placed(mesh: Mesh, views: Views) -> Mesh:
    """The mesh in the canonical frame, turned so that the first view's camera, or one where its name says, sees it."""
    if views.cameras is not None:
        camera = views.cameras[0]
    else:
        camera = orbit_camera(NAMED_AZIMUTHS_DEG.get(views.names[0], 0.0), 0.0, 1.0, 1.0, 1)
    to_camera_N3 = mesh.vertices_N3 * np.array([1.0, -1.0, -1.0])  # a camera's y runs down, its z away
    turned_N3 = to_camera_N3 @ camera.world_to_camera_44[:3, :3]
    return canonical(Mesh(turned_N3.astype(np.float32), mesh.faces_F3))

"""Shapes as fields: truncated signed distance, and colour near the surface, at the cell centres of a cube.

    field = measure(mesh, colours, resolution=64, truncation_cells=6)
    field.distance_RRR[32, 32, 32]          # world units, negative inside
    Field.from_bytes(field.to_bytes())

The cube is a little larger than the canonical one, so that every surface closes within it. Distances are exact but
for those to faces inside the solid, which are no surface; the sign is that of the generalised winding number, so holes,
duplicated vertices and overlapping parts are fine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.fields.colours import SurfaceColours
from models.geometry import ByteArray, FloatArray, Mesh, weld
from models.topology import has_no_border

HALF_SIDE = 0.55
"""The cube is [-HALF_SIDE, HALF_SIDE]^3."""
COLOUR_CELLS = 1.5
"""Cells whose centre lies this close to the surface, in cells, have a colour."""
SLAB_POINTS = 2_000_000
"""Points that are measured at a time."""

HalfArray = npt.NDArray[np.float16]
IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Field:
    """A shape on R^3 cells, x slowest.

    distance_RRR: float16 world units, negative inside, clipped to +-truncation. colours_M3: uint8 RGB of the surface
    point nearest to each of the `coloured` cells, in their order; None for a shape without colours.
    """

    distance_RRR: HalfArray
    truncation: float
    colours_M3: ByteArray | None = None

    @property
    def resolution(self) -> int:
        return len(self.distance_RRR)

    @property
    def cell(self) -> float:
        """Side of a cell in world units."""
        return 2 * HALF_SIDE / self.resolution

    @property
    def coloured(self) -> IndexArray:
        """Flat indices (M,) of the cells near the surface."""
        return near_surface(self.distance_RRR)

    def to_bytes(self) -> bytes:
        """A safetensors file; equal fields give equal bytes."""
        from safetensors.numpy import save

        arrays = {"distance": self.distance_RRR, "truncation": np.array([self.truncation])}
        data: bytes = save(arrays if self.colours_M3 is None else {**arrays, "colours": self.colours_M3})
        return data

    @staticmethod
    def from_bytes(data: bytes) -> Field:
        """Raises BadInput for what `to_bytes` did not write."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(data)
            field = Field(arrays["distance"], float(arrays["truncation"][0]), arrays.get("colours"))
        except (SafetensorError, KeyError) as error:
            raise BadInput(f"not a readable field: {error}") from error
        return field


@dataclass(frozen=True)
class Measured:
    """A field, and the share of all cells where the winding number leaves the inside in doubt (.25 to .75)."""

    field: Field
    doubtful_share: float


def measure(mesh: Mesh, colours: SurfaceColours | None, *, resolution: int, truncation_cells: float) -> Measured:
    """The field of a canonical mesh. colours: of its faces. Raises BadInput for vertices that are not finite."""
    if not np.isfinite(mesh.vertices_N3).all():
        raise BadInput("the mesh has vertices that are not finite")
    truncation = truncation_cells * 2 * HALF_SIDE / resolution
    cells = _Cells(resolution)
    unsigned_RRR, closest = _distances(mesh, cells, truncation)
    inside_RRR, num_doubtful = _inside(mesh, cells, unsigned_RRR)
    signed_RRR = np.where(inside_RRR, -_depth(unsigned_RRR, inside_RRR, cells, truncation), unsigned_RRR)
    colours_M3 = None if colours is None else closest.colours(near_surface(signed_RRR), colours)
    return Measured(Field(signed_RRR, truncation, colours_M3), num_doubtful / resolution**3)


def near_surface(distance_RRR: HalfArray) -> IndexArray:
    """Flat indices (M,) of the cells that have a colour."""
    return np.flatnonzero(np.abs(distance_RRR) < _band(len(distance_RRR)))


def cell_centres(resolution: int) -> npt.NDArray[np.float64]:
    """Coordinates (R,) of the cells' centres along one axis."""
    return ((np.arange(resolution) + 0.5) / resolution * 2 - 1) * HALF_SIDE


@dataclass(frozen=True)
class _Cells:
    """The lattice of the cells' centres."""

    resolution: int

    def within(self, low_3: FloatArray, high_3: FloatArray) -> IndexArray:
        """Flat indices (N,), ascending, of the centres in a box."""
        axis_R = cell_centres(self.resolution)
        spans = [np.flatnonzero((axis_R >= low) & (axis_R <= high)) for low, high in zip(low_3, high_3, strict=True)]
        return np.ravel_multi_index(np.meshgrid(*spans, indexing="ij"), (self.resolution,) * 3).reshape(-1)

    def points(self, flat_N: IndexArray) -> npt.NDArray[np.float64]:
        """Centres (N, 3)."""
        index_3N = np.unravel_index(flat_N, (self.resolution,) * 3)
        return cell_centres(self.resolution)[np.stack(index_3N, axis=1)]


@dataclass(frozen=True)
class _Closest:
    """The faces, and the points on them, that are closest to cells near any face; cell_N ascending."""

    cell_N: IndexArray
    face_N: IndexArray
    point_N3: npt.NDArray[np.float64]

    def colours(self, cell_M: IndexArray, colours: SurfaceColours) -> ByteArray:
        """Of the points closest to some of these cells."""
        place_M = np.searchsorted(self.cell_N, cell_M)
        return colours.at(self.face_N[place_M], self.point_N3[place_M])


def _distances(mesh: Mesh, cells: _Cells, truncation: float) -> tuple[HalfArray, _Closest]:
    """Unsigned distances (R, R, R) to the nearest face, up to the truncation."""
    import igl

    vertices, faces = mesh.vertices_N3.astype(np.float64), mesh.faces_F3.astype(np.int64)
    unsigned = igl.SignedDistanceType.SIGNED_DISTANCE_TYPE_UNSIGNED
    distance_X = np.full(cells.resolution**3, truncation, np.float16)
    band = _band(cells.resolution)
    closest: list[_Closest] = []
    for flat_N in _slabs(cells.within(vertices.min(axis=0) - truncation, vertices.max(axis=0) + truncation)):
        # Beyond the upper bound libigl gives NaN, and no face.
        found_N, face_N, point_N3, _ = igl.signed_distance(
            cells.points(flat_N), vertices, faces, unsigned, -truncation, truncation
        )
        half_N = np.nan_to_num(found_N, nan=truncation).clip(0, truncation).astype(np.float16)
        distance_X[flat_N] = half_N
        near_N = half_N < band
        closest.append(_Closest(flat_N[near_N], face_N[near_N], point_N3[near_N]))
    joined = (np.concatenate([getattr(part, name) for part in closest]) for name in ("cell_N", "face_N", "point_N3"))
    return distance_X.reshape((cells.resolution,) * 3), _Closest(*joined)


def _depth(unsigned_RRR: HalfArray, inside_RRR: npt.NDArray[np.bool_], cells: _Cells, truncation: float) -> HalfArray:
    """How deep cells inside lie. Where parts overlap, faces run through the inside: they are no surface, so that cells
    much closer to a face than to any cell outside are as deep as the latter says, to half a cell."""
    from scipy import ndimage

    step = 2 * HALF_SIDE / cells.resolution
    to_outside_RRR = ndimage.distance_transform_edt(inside_RRR) * step
    hidden_RRR = unsigned_RRR < to_outside_RRR - 1.5 * step
    return np.where(hidden_RRR, np.minimum(to_outside_RRR - 0.5 * step, truncation), unsigned_RRR).astype(np.float16)


def _inside(mesh: Mesh, cells: _Cells, unsigned_RRR: HalfArray) -> tuple[npt.NDArray[np.bool_], int]:
    """Which cells' centres lie inside, and for how many this is in doubt.

    The winding number of a mesh without border is constant wherever no surface comes between: it is asked for near the
    surface and once in each region beyond, in a fifth of the time. Of other meshes it is asked for everywhere.
    """
    inside_X = np.zeros(unsigned_RRR.size, np.bool_)
    welded = weld(mesh)
    if not has_no_border(welded):
        boxed_N = cells.within(welded.vertices_N3.min(axis=0), welded.vertices_N3.max(axis=0))
        winding_N = _winding(welded, cells, boxed_N)
        inside_X[boxed_N] = np.abs(winding_N) > 0.5
        return inside_X.reshape(unsigned_RRR.shape), _num_doubtful(winding_N)
    from scipy import ndimage

    # Between neighbouring centres that are both further than half a cell from the surface it cannot pass.
    near_RRR = unsigned_RRR < np.float16(0.51 * 2 * HALF_SIDE / cells.resolution)
    region_RRR, num_regions = ndimage.label(~near_RRR)
    one_of_each = np.zeros(num_regions + 1, np.int64)
    one_of_each[region_RRR.reshape(-1)] = np.arange(unsigned_RRR.size)
    near_N = np.flatnonzero(near_RRR)
    asked_N = np.concatenate([near_N, one_of_each[1:]])
    winding_N = _winding(welded, cells, asked_N)
    inside_N = np.abs(winding_N) > 0.5
    inside_X = np.concatenate([[False], inside_N[len(near_N) :]])[region_RRR.reshape(-1)]
    inside_X[near_N] = inside_N[: len(near_N)]
    return inside_X.reshape(unsigned_RRR.shape), _num_doubtful(winding_N)


def _winding(mesh: Mesh, cells: _Cells, flat_N: IndexArray) -> npt.NDArray[np.float64]:
    import igl

    vertices, faces = mesh.vertices_N3.astype(np.float64), mesh.faces_F3.astype(np.int64)
    parts = [igl.fast_winding_number(vertices, faces, cells.points(part)) for part in _slabs(flat_N)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _band(resolution: int) -> np.float16:
    """How close to the surface a cell has a colour."""
    return np.float16(COLOUR_CELLS * 2 * HALF_SIDE / resolution)


def _num_doubtful(winding_N: npt.NDArray[np.float64]) -> int:
    return int(((np.abs(winding_N) > 0.25) & (np.abs(winding_N) < 0.75)).sum())


def _slabs(flat_N: IndexArray) -> Iterator[IndexArray]:
    for start in range(0, len(flat_N), SLAB_POINTS):
        yield flat_N[start : start + SLAB_POINTS]

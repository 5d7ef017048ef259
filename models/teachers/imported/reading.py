"""One item's files as casts in the canonical frame, with bounds, and without trust.

Meshes pass `models.normalise`, as those of ingest do; arrays are read by arrays.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput, EmptyOutput
from models.gaussians import Gaussians
from models.geometry import Mesh, sample_surface, weld
from models.hosting.canonical import Placement
from models.meshfiles import Part, concatenated, read_glb
from models.normalise import TO_Y_UP, Limits, MeshFile, Normalised, UpAxis, normalise
from models.teachers import TeacherOutput
from models.teachers.imported.arrays import READERS, Array


class GaussiansUp(StrEnum):
    """The axis that points up in a 3DGS PLY."""

    MINUS_Y = "-y"
    Y = "y"
    Z = "z"


GAUSSIANS_TO_Y_UP: dict[GaussiansUp, npt.NDArray[np.float64]] = {
    GaussiansUp.MINUS_Y: np.diag([1.0, -1, -1]),  # TRELLIS, (x, y, z) with Z up, is saved as (x, -z, y)
    GaussiansUp.Y: TO_Y_UP["y"],
    GaussiansUp.Z: TO_Y_UP["z"],
}

BLOCK = "teachers.imported"
TRELLIS_RESOLUTION = 64
LATENT_CHANNELS = 8
LARGEST_LOGIT = 15.0
"""Of an opacity: TRELLIS's own of 1 has an infinite one in float32."""
THINNEST = 1e-3
"""The shortest side of a mesh over its longest: below, it is a sheet or a thread."""
SIDES = (1e-6, 1e6)
"""Longest sides of a mesh, in its own units, that are believed."""
APART, TELLING = 0.1, 0.02
"""Median distance of Gaussians from the mesh that is never right, and the one above which another frame may be."""
HEADER_BYTES = 65536
ROLES = {
    "vertices": "vertices",
    "faces": "faces",
    "coords": "coords",
    "coords_N3": "coords",
    "slat": "slat",
    "slat_N8": "slat",
    "feats": "slat",
}
"""What an array is, by its own name or its file's."""


@dataclass(frozen=True)
class Frames:
    """Where up is in meshes and in Gaussians."""

    up: UpAxis
    gaussians_up: GaussiansUp


@dataclass
class Contents:
    """What an item's files hold: by file name, arrays by role."""

    meshes: dict[str, MeshFile] = field(default_factory=dict)
    gaussians: dict[str, bytes] = field(default_factory=dict)
    arrays: dict[str, dict[str, Array]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def read_files(
    paths: Sequence[Path], frames: Frames, max_bytes: int, max_triangles: int, max_texture_pixels: int, *, seed: int
) -> TeacherOutput:
    """What the files hold: a mesh, Gaussians or both, and latents. Raises BadInput saying which file is at fault.

    The box of the mesh, or without one that of the Gaussians, becomes the canonical one.
    """
    contents = _contents(paths, max_bytes)
    mesh, placement = _mesh(contents, frames, Limits(max_triangles, max_texture_pixels, BLOCK))
    own = _own_gaussians(contents)
    if placement is None:
        placement = _box_of(own, contents, frames)
    quality: dict[str, Any] = {"imported": sorted(path.name for path in paths)}
    if mesh is not None:
        quality["up"] = frames.up
    if own is not None:
        with _blaming(next(iter(contents.gaussians))):
            quality |= _check_gaussians(own, mesh, placement, frames, np.random.default_rng(seed))
    latents = _latents(contents)
    if latents:
        quality["latents_frame"] = f"TRELLIS: Z up, voxel c has its centre at (c + .5) / {TRELLIS_RESOLUTION} - .5"
        quality["placement"] = dict(replace(placement, rotation_33=TO_Y_UP["z"]).figures())
    _check_counts(contents.metadata, own, latents)
    gaussians = None if own is None else placement.gaussians(own)
    return TeacherOutput(tuple(cast for cast in (mesh, gaussians) if cast is not None), latents, quality)


def _contents(paths: Sequence[Path], max_bytes: int) -> Contents:
    contents = Contents()
    for path in paths:
        suffix, data = path.suffix.lower().removeprefix("."), _read(path, max_bytes)
        with _blaming(path.name):
            if suffix == "ply" and b"property float f_dc_0" in data[:HEADER_BYTES]:
                contents.gaussians[path.name] = data
            elif suffix in READERS:
                named = {name or path.stem: array for name, array in READERS[suffix](data, max_bytes).items()}
                contents.arrays[path.name] = {ROLES[name]: array for name, array in named.items() if name in ROLES}
            elif suffix == "json":
                contents.metadata = _json(data)
            else:
                contents.meshes[path.name] = MeshFile(data, suffix)
    if len(contents.gaussians) > 1:
        raise BadInput(f"{' and '.join(contents.gaussians)} both hold Gaussians: leave one")
    return contents


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    if not data:
        raise BadInput(f"{path.name} is empty (0 bytes)")
    if len(data) > max_bytes:
        raise BadInput(f"{path.name} is over {max_bytes / 1e6:.0f} MB ({BLOCK}.max_file_mb)")
    return data


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """A BadInput says whose fault it is."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def _mesh(contents: Contents, frames: Frames, limits: Limits) -> tuple[Mesh | None, Placement | None]:
    """The canonical mesh, where there is one, and where Gaussians of its frame are placed."""
    if (found := _mesh_file(contents, limits.max_triangles)) is None:
        return None, None
    name, mesh_file = found
    with _blaming(name):
        normalised = normalise(mesh_file, up_axis=frames.up, limits=limits)
        _check_sides(normalised)
        mesh = weld(_with_vertex_colours(normalised))
    centre_3, scale = np.array(normalised.centre), 1 / max(normalised.extents)
    return mesh, Placement(GAUSSIANS_TO_Y_UP[frames.gaussians_up], centre_3, scale)


def _own_gaussians(contents: Contents) -> Gaussians | None:
    """In the frame of their file."""
    for name, data in contents.gaussians.items():
        with _blaming(name):
            return _sound(Gaussians.from_ply(data))
    return None


def _box_of(own: Gaussians | None, contents: Contents, frames: Frames) -> Placement:
    """How Gaussians are placed by their own box, where there is no mesh."""
    if own is None:
        names = ", ".join(sorted(contents.arrays)) or "metadata"
        raise BadInput(
            f"there is neither a mesh nor Gaussians, only {names}: decode it where it was made, and put "
            "it beside as mesh.glb or gaussians.ply (layout files: NAME.glb, NAME.ply)"
        )
    try:
        return Placement.of_gaussians(own, GAUSSIANS_TO_Y_UP[frames.gaussians_up])
    except EmptyOutput as error:
        raise BadInput(str(error)) from error


def _mesh_file(contents: Contents, max_triangles: int) -> tuple[str, MeshFile] | None:
    """The one mesh, and the name of its file."""
    found = dict(contents.meshes)
    for name, arrays in contents.arrays.items():
        if "vertices" in arrays:
            with _blaming(name):
                found[name] = MeshFile(_mesh_of(arrays, max_triangles).to_glb(), "glb")
    if len(found) > 1:
        raise BadInput(f"{' and '.join(sorted(found))} are all meshes of one item: leave one")
    return next(iter(found.items()), None)


def _mesh_of(arrays: Mapping[str, Array], max_triangles: int) -> Mesh:
    """Vertices (N, 3) and faces (F, 3) that can be written as a mesh."""
    vertices, faces = arrays["vertices"], arrays.get("faces")
    if faces is None or faces.size == 0:
        raise BadInput("it holds points only, no triangles")
    if vertices.ndim != 2 or vertices.shape[1] != 3 or vertices.dtype.kind != "f":
        raise BadInput(f"its vertices are {vertices.dtype} of shape {vertices.shape}, not floats (N, 3)")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise BadInput(f"its faces are {faces.dtype} of shape {faces.shape}, not integers (F, 3)")
    if len(faces) > max_triangles:
        raise BadInput(f"{len(faces)} triangles are over the limit of {max_triangles} ({BLOCK}.max_triangles)")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise BadInput(f"a triangle refers to vertex {int(faces.max())}, there are {len(vertices)}")
    if not np.isfinite(vertices).all():
        raise BadInput("it has vertices that are not finite (NaN or infinite)")
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def _check_sides(normalised: Normalised) -> None:
    shortest, longest = min(normalised.extents), max(normalised.extents)
    sides = " x ".join(f"{side:.3g}" for side in normalised.extents)
    if not SIDES[0] <= longest <= SIDES[1]:
        raise BadInput(f"its box of {sides} is of no size that can be meant")
    if shortest < THINNEST * longest:
        raise BadInput(f"it is flat: its box is {sides}")


def _with_vertex_colours(normalised: Normalised) -> Mesh:
    """The canonical mesh; textures are read off at the vertices."""
    parts = read_glb(normalised.glb)
    vertices_N3, faces_F3 = concatenated(parts)
    colours = None if normalised.colour == "none" else np.concatenate([_colours(part) for part in parts])
    return Mesh(vertices_N3.astype(np.float32), faces_F3.astype(np.int32), colours)


def _colours(part: Part) -> npt.NDArray[np.uint8]:
    """RGBA (N, 4) of a part's vertices; white where it states none."""
    colours = part.vertex_colours()
    return np.full((len(part.vertices_N3), 4), 255, np.uint8) if colours is None else colours


def _sound(gaussians: Gaussians) -> Gaussians:
    """Finite, and with logits that are bounded."""
    if len(gaussians.means_N3) == 0:
        raise BadInput("it holds no Gaussian")
    bounded = replace(gaussians, opacity_logits_N=gaussians.opacity_logits_N.clip(-LARGEST_LOGIT, LARGEST_LOGIT))
    for what in ("means_N3", "log_scales_N3", "rotations_N4", "opacity_logits_N", "sh_dc_N3"):
        values = getattr(bounded, what).reshape(len(bounded.means_N3), -1)
        if num_bad := int((~np.isfinite(values).all(axis=1)).sum()):
            raise BadInput(f"{num_bad} of {len(values)} Gaussians have {what[:-3]} that are NaN or infinite")
    if num_bad := int((np.linalg.norm(bounded.rotations_N4, axis=1) < 1e-6).sum()):
        raise BadInput(f"{num_bad} of {len(bounded.means_N3)} Gaussians have a rotation of length 0")
    return bounded


def _check_gaussians(
    own: Gaussians, mesh: Mesh | None, placement: Placement, frames: Frames, rng: np.random.Generator
) -> dict[str, Any]:
    """Figures. Raises BadInput where their sizes, or their distance from the mesh, tell another frame or object."""
    largest_N = own.log_scales_N3.max(axis=1) + math.log(placement.scale)
    if (median := float(np.median(largest_N))) > math.log(0.25):
        raise BadInput(
            f"most of its Gaussians are wider than a quarter of the object (e^{median:.1f}): a PLY has logarithms"
        )
    figures: dict[str, Any] = {"gaussians_up": frames.gaussians_up.value}
    if mesh is not None:
        placements = {up: replace(placement, rotation_33=turn) for up, turn in GAUSSIANS_TO_Y_UP.items()}
        figures["gaussians_to_mesh"] = round(_apart(mesh, own, placements, frames.gaussians_up, rng), 4)
    return figures


def _apart(
    mesh: Mesh,
    own: Gaussians,
    placements: Mapping[GaussiansUp, Placement],
    chosen: GaussiansUp,
    rng: np.random.Generator,
) -> float:
    """Median distance of the Gaussians from the mesh. Raises BadInput where they are of another frame or object."""
    from scipy.spatial import cKDTree

    surface = cKDTree(sample_surface(mesh, 20_000, rng)[0])
    means_N3 = own.means_N3[:: max(1, len(own.means_N3) // 2000)]
    medians = {up: float(np.median(surface.query(place.points(means_N3))[0])) for up, place in placements.items()}
    best = min(medians, key=lambda up: medians[up])
    lie = f"its Gaussians lie {medians[chosen]:.2f} of the longest side from the mesh (median)"
    if medians[chosen] > TELLING and medians[best] < medians[chosen] / 2:
        raise BadInput(f"{lie}, and {medians[best]:.2f} with {best} up: set {BLOCK}.gaussians_up, or {BLOCK}.up")
    if medians[chosen] > APART:
        raise BadInput(f"{lie}: of another object, or of a frame that {BLOCK}.gaussians_up does not know")
    return medians[chosen]


def _latents(contents: Contents) -> dict[str, Array]:
    """coords_N3 and slat_N8 in TRELLIS's order, where they are there."""
    coords = _one(contents, "coords", _coords)
    slat = _one(contents, "slat", _slat)
    if coords is None and slat is None:
        return {}
    if coords is None:
        raise BadInput("there are latents (slat), but not the voxels that they belong to (coords)")
    if slat is None:
        return {"coords_N3": coords}
    if len(coords) != len(slat):
        raise BadInput(f"{len(coords)} voxels (coords) and {len(slat)} latents (slat) are not of one run")
    return {"coords_N3": coords, "slat_N8": slat}


def _one(contents: Contents, role: str, check: Callable[[Array], Array]) -> Array | None:
    """The array of a role, which several files may hold if they agree."""
    found: dict[str, Array] = {}
    for name, arrays in contents.arrays.items():
        if role in arrays:
            with _blaming(name):
                found[name] = check(arrays[role])
    if not found:
        return None
    first, *others = found.values()
    if not all(np.array_equal(first, other) for other in others):
        raise BadInput(f"{' and '.join(found)} hold different {role}: they are not of one run")
    return first


def _coords(array: Array) -> Array:
    """int32 (N, 3) of (N, 3), or of (N, 4) with a batch index of 0 first."""
    if array.dtype.kind not in "iu" or array.ndim != 2 or array.shape[1] not in (3, 4) or len(array) == 0:
        raise BadInput(f"coords are {array.dtype} of shape {array.shape}, not integers (N, 3) or (N, 4)")
    if array.shape[1] == 4 and array[:, 0].any():
        raise BadInput("coords are of several objects: their batch index, which comes first, is not 0")
    voxels_N3 = array[:, -3:]
    if voxels_N3.min() < 0 or voxels_N3.max() >= TRELLIS_RESOLUTION:
        raise BadInput(f"coords reach from {voxels_N3.min()} to {voxels_N3.max()}, not 0 to {TRELLIS_RESOLUTION - 1}")
    return voxels_N3.astype(np.int32)


def _slat(array: Array) -> Array:
    """float16 (N, 8)."""
    if array.dtype.kind != "f" or array.ndim != 2 or array.shape[1] != LATENT_CHANNELS or len(array) == 0:
        raise BadInput(f"latents are {array.dtype} of shape {array.shape}, not floats (N, {LATENT_CHANNELS})")
    with np.errstate(over="ignore"):
        halves = array.astype(np.float16)
    if not np.isfinite(halves).all():
        raise BadInput("latents are not finite (NaN, infinite, or too large for float16)")
    return halves


def _check_counts(metadata: Mapping[str, Any], gaussians: Gaussians | None, latents: Mapping[str, Array]) -> None:
    """fresnel's metadata.json says how many there are."""
    counts = {
        "num_gaussians": None if gaussians is None else len(gaussians.means_N3),
        "num_occupied_voxels": len(latents["coords_N3"]) if "coords_N3" in latents else None,
    }
    for name, count in counts.items():
        if count is not None and metadata.get(name, count) != count:
            raise BadInput(f"metadata.json says {name} {metadata[name]}, there are {count}: not of one run")


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not readable ({error}): whoever wrote it was cut short") from error
    if not isinstance(value, dict):
        raise BadInput("not a JSON object")
    return value

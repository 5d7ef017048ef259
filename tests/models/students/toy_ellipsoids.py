"""Ellipsoids of two colours with their views, cameras, tokens and fields: what `field` learns from, in a second."""

from __future__ import annotations

import functools

import numpy as np
import trimesh

from models.cameras import NAMED_AZIMUTHS_DEG, orbit_camera
from models.fields import measure
from models.fields.colours import SurfaceColours
from models.geometry import Mesh
from models.needs import FIELD, TOKENS, VIEWS, InHand
from models.students import FeatureSpec, Spec
from models.views import Views

NAMES = tuple(NAMED_AZIMUTHS_DEG)
SIZE_PX, GRID, RESOLUTION, TRUNCATION_CELLS = 64, 4, 32, 3.5
FORMS = {
    "tokens": FeatureSpec("toy", 4, (GRID, GRID), NAMES).to_json(),
    "views": {"size_px": SIZE_PX},
    "field": {"resolution": RESOLUTION, "truncation": TRUNCATION_CELLS * 1.1 / RESOLUTION},
}
SPEC = Spec(FORMS)
TOP, BOTTOM = (230, 40, 40), (40, 40, 230)
CAMERAS = {name: orbit_camera(azimuth, 12, 2.7, 40, SIZE_PX) for name, azimuth in NAMED_AZIMUTHS_DEG.items()}


def radii(count: int, seed: int) -> list[tuple[float, float, float]]:
    """Half-axes (x, y, z) of so many ellipsoids, the longest .5."""
    rng = np.random.default_rng(seed)
    return [(0.5, float(y), float(z)) for y, z in rng.uniform(0.15, 0.45, (count, 2))]


@functools.cache
def mesh(half_axes: tuple[float, float, float]) -> Mesh:
    """The upper half red, the lower blue."""
    ball = trimesh.creation.icosphere(4)
    colours_N4 = np.array([(*(TOP if y > 0 else BOTTOM), 255) for y in ball.vertices[:, 1]], np.uint8)
    return Mesh((ball.vertices * half_axes).astype(np.float32), ball.faces.astype(np.int32), colours_N4)


@functools.cache
def picture(half_axes: tuple[float, float, float], name: str) -> np.ndarray:
    """The view (S, S, 4), four rays a pixel, each met with the ellipsoid."""
    camera, side = CAMERAS[name], 2 * SIZE_PX
    row, column = np.meshgrid(*[(np.arange(side) + 0.5) / 2] * 2, indexing="ij")
    pixel = np.stack([column, row, np.ones_like(row)], axis=-1) @ np.linalg.inv(camera.intrinsics_33).T
    ray = pixel @ camera.world_to_camera_44[:3, :3] / np.array(half_axes)
    start = camera.centre_3 / np.array(half_axes)
    a, b, c = (ray * ray).sum(-1), ray @ start, start @ start - 1
    root = b * b - a * c
    hit = root >= 0
    height = start[1] + (-b - np.sqrt(root.clip(0))) / a * ray[..., 1]
    rgba = np.zeros((side, side, 4))
    rgba[hit & (height > 0)] = (*TOP, 255)
    rgba[hit & (height <= 0)] = (*BOTTOM, 255)
    blocks = rgba.reshape(SIZE_PX, 2, SIZE_PX, 2, 4)
    alpha = blocks[..., 3:].mean(axis=(1, 3))
    rgb = (blocks[..., :3] * blocks[..., 3:]).sum(axis=(1, 3)) / np.maximum(blocks[..., 3:].sum(axis=(1, 3)), 1)
    return np.rint(np.concatenate([rgb, alpha], axis=-1)).astype(np.uint8)


def given(half_axes: tuple[float, float, float], names: tuple[str, ...] = NAMES, *, cameras: bool = True) -> InHand:
    """The item as the student meets it, with its field."""
    images = np.stack([picture(half_axes, name) for name in names])
    patches = images.reshape(len(names), GRID, SIZE_PX // GRID, GRID, SIZE_PX // GRID, 4).mean(axis=(2, 4)) / 255
    shape = mesh(half_axes)
    field = measure(
        shape, SurfaceColours.of_mesh(shape), resolution=RESOLUTION, truncation_cells=TRUNCATION_CELLS
    ).field
    values = {
        TOKENS: dict(zip(names, patches.astype(np.float16), strict=True)),
        VIEWS: Views(names, images, tuple(CAMERAS[name] for name in names) if cameras else None),
        FIELD: field,
    }
    return InHand("ellipsoid", values, (TOKENS, VIEWS, FIELD))

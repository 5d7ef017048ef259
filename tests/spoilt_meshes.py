"""Good meshes made bad in known ways: what a gate must tell.

shattered(mesh)                 scaled(mesh, (0.6, 1, 1))                 scaled(mesh, (-1, 1, 1))     mirrored
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.geometry import Mesh, weld


def scaled(mesh: Mesh, factors: tuple[float, float, float]) -> Mesh:
    """Squashed, mirrored or turned by half; outside stays outside."""
    flipped = np.prod(factors) < 0
    faces_F3 = mesh.faces_F3[:, ::-1].copy() if flipped else mesh.faces_F3
    return replace(mesh, vertices_N3=mesh.vertices_N3 * np.array(factors, np.float32), faces_F3=faces_F3)


def shattered(mesh: Mesh, num_triangles: int = 28) -> Mesh:
    """Loose triangles between vertices of the mesh: they fill its silhouettes, and lie all over the place."""
    corners = np.random.default_rng(0).integers(len(mesh.vertices_N3), size=3 * num_triangles)
    colours_N4 = None if mesh.colours_N4 is None else mesh.colours_N4[corners]
    return Mesh(mesh.vertices_N3[corners], np.arange(len(corners), dtype=np.int32).reshape(-1, 3), colours_N4)


def crumpled(mesh: Mesh, size: float = 0.02) -> Mesh:
    """Every vertex moved at random; size: standard deviation in units of the longest side."""
    joined = weld(mesh)
    noise_N3 = np.random.default_rng(0).normal(scale=size, size=joined.vertices_N3.shape)
    return replace(joined, vertices_N3=(joined.vertices_N3 + noise_N3).astype(np.float32))


def inside_out(mesh: Mesh) -> Mesh:
    """Every face turned round."""
    return replace(mesh, faces_F3=mesh.faces_F3[:, ::-1].copy())

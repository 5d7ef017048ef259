"""Whether a mesh is the boundary of a solid: figures of the mesh alone, which no picture of it shows."""

from __future__ import annotations

import numpy as np

from models.geometry import Mesh, face_areas, sample_surface
from models.occupancy import contains

NUM_SAMPLES = 2_000
"""Of the surface; a share of it is known to .01."""
STEP = 1e-3
"""From the surface to either side, in units of the longest side: less than the thinnest wall that a scan resolves."""


def outward_share(mesh: Mesh, seed: int) -> float:
    """Share of the surface with the solid behind it and none before it: 1 for a closed mesh, 0 for one inside out.

    Inside is where `models.occupancy.contains` says so. Loose triangles, crumpled and interpenetrating surfaces lie
    under a half. 0 for a mesh without area.
    """
    if not face_areas(mesh).sum() > 0:
        return 0.0
    points_N3, normals_N3 = sample_surface(mesh, NUM_SAMPLES, np.random.default_rng(seed))
    step_N3 = STEP * normals_N3.astype(np.float64)
    before_N, behind_N = np.split(contains(mesh, np.concatenate([points_N3 + step_N3, points_N3 - step_N3])), 2)
    return float((behind_N & ~before_N).mean())


def area_to_hull(mesh: Mesh) -> float | None:
    """Area over that of the convex hull: about 1 for simple shapes, the higher the more folded or crumpled.

    None for less than four vertices, which have no hull.
    """
    if len(mesh.vertices_N3) < 4:
        return None
    from scipy.spatial import ConvexHull

    hull = ConvexHull(mesh.vertices_N3.astype(np.float64), qhull_options="QJ")  # joggled: flat meshes have one too
    return float(face_areas(mesh).sum()) / float(hull.area)

"""How a triangle mesh hangs together: pieces, closedness, enclosed volume."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.geometry import Mesh


def components(mesh: Mesh) -> npt.NDArray[np.int32]:
    """Number of the connected piece (N,) that each vertex belongs to, 0..; vertices at one place are not joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(mesh.vertices_N3)
    a, b, c = mesh.faces_F3.T
    links = coo_array((np.ones(2 * len(a), np.int8), (np.r_[a, b], np.r_[b, c])), shape=(count, count))
    _, piece_N = connected_components(links, directed=False)
    return np.asarray(piece_N, np.int32)


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge joins exactly two faces, which run along it in opposite directions."""
    if len(mesh.faces_F3) == 0:
        return False
    start = mesh.faces_F3.astype(np.int64).reshape(-1)
    end = np.roll(mesh.faces_F3, -1, axis=1).astype(np.int64).reshape(-1)
    count = len(mesh.vertices_N3)
    forward, backward = np.sort(start * count + end), np.sort(end * count + start)
    return bool(np.all(np.diff(forward) > 0) and np.array_equal(forward, backward))


def has_no_border(mesh: Mesh) -> bool:
    """Whether along every edge as many faces run one way as the other: then winding numbers are whole."""
    start = mesh.faces_F3.astype(np.int64).reshape(-1)
    end = np.roll(mesh.faces_F3, -1, axis=1).astype(np.int64).reshape(-1)
    count = len(mesh.vertices_N3)
    return bool(np.array_equal(np.sort(start * count + end), np.sort(end * count + start)))


def face_volumes(mesh: Mesh) -> npt.NDArray[np.float64]:
    """Signed volume (F,) of the tetrahedron of each face and the origin; their sum is what a closed mesh encloses."""
    a, b, c = (mesh.vertices_N3.astype(np.float64)[mesh.faces_F3[:, corner]] for corner in range(3))
    volumes: npt.NDArray[np.float64] = np.einsum("fd,fd->f", a, np.cross(b, c)) / 6
    return volumes


def volume(mesh: Mesh) -> float:
    """Enclosed volume, positive for faces that are counter-clockwise from outside; meaningful for closed meshes."""
    return float(face_volumes(mesh).sum())

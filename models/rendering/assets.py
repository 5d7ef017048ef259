"""Meshes as pyrender draws them: base colours, and normals that keep hard edges hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.geometry import Mesh
from models.meshfiles import Part, Texture, read_glb
from models.meshfiles.textures import GL_CODES

CREASE_COS = 0.75
"""Corners whose face turns further (41 degrees) from the smooth vertex normal keep their face's normal."""

CLAY = (0.62, 0.60, 0.57)
"""Linear colour of what has neither texture nor colours."""

WHITE = (1.0, 1.0, 1.0)
"""What texture and vertex colours multiply where no base colour is stated."""


def pyrender_mesh(source: bytes | Mesh) -> Any:
    """A `pyrender.Mesh` of GLB bytes (every node, in place) or of a Mesh. Raises BadInput."""
    import pyrender

    primitives = [_of_mesh(source)] if isinstance(source, Mesh) else _of_glb(source)
    return pyrender.Mesh(primitives)


def _of_mesh(mesh: Mesh) -> Any:
    colours = None if mesh.colours_N4 is None else mesh.colours_N4 / np.float32(255)
    return _primitive(mesh.vertices_N3, mesh.faces_F3, None, colours, _material(None if colours is None else WHITE))


def _of_glb(data: bytes) -> list[Any]:
    textures: dict[tuple[Texture, float | None], Any] = {}
    return [_of_part(part, textures) for part in read_glb(data)]


def _of_part(part: Part, textures: dict[tuple[Texture, float | None], Any]) -> Any:
    """textures: those that other parts already share, by image and cutoff."""
    colours = None if part.colours_N4 is None else part.colours_N4 / np.float32(255)
    base = None if part.material is None else part.material.base_colour
    rgb = None if base is None else base[:3]
    if part.material is None or part.texture is None or part.uv_N2 is None:
        stated = rgb or (None if colours is None else WHITE)
        return _primitive(part.vertices_N3, part.faces_F3, None, colours, _material(stated))
    key = (part.texture, part.material.alpha_cutoff)
    if key not in textures:
        textures[key] = _texture(*key)
    upward_N2 = np.stack([part.uv_N2[:, 0], 1 - part.uv_N2[:, 1]], axis=1)
    return _primitive(part.vertices_N3, part.faces_F3, upward_N2, colours, _material(rgb or WHITE, textures[key]))


def _texture(texture: Texture, cutoff: float | None) -> Any:
    """RGBA (rows of other widths would break GL's alignment). Alpha only cuts holes, and only under MASK."""
    import pyrender

    pixels = texture.rgba().copy()
    pixels[..., 3] = 255 if cutoff is None else np.where(pixels[..., 3] >= cutoff * 255, 255, 0)
    sampler = pyrender.Sampler(wrapS=GL_CODES[texture.wrap[0]], wrapT=GL_CODES[texture.wrap[1]])
    return pyrender.Texture(source=pixels, source_channels="RGBA", sampler=sampler)


def _material(rgb: tuple[float, ...] | None, texture: Any = None) -> Any:
    """Opaque (glass too: what teachers and students are shown is a solid) and seen from both sides."""
    import pyrender

    return pyrender.MetallicRoughnessMaterial(
        alphaMode="OPAQUE", doubleSided=True, baseColorFactor=[*(rgb or CLAY), 1.0], baseColorTexture=texture
    )


def _primitive(
    vertices_N3: npt.NDArray[Any],
    faces_F3: npt.NDArray[Any],
    uv_N2: npt.NDArray[Any] | None,
    colours_N4: npt.NDArray[Any] | None,
    material: Any,
) -> Any:
    import pyrender

    corner_vertex, faces, normals = _shading_corners(np.asarray(vertices_N3, np.float64), faces_F3)
    return pyrender.Primitive(
        positions=vertices_N3[corner_vertex],
        normals=normals.astype(np.float32),
        texcoord_0=None if uv_N2 is None else uv_N2[corner_vertex],
        color_0=None if colours_N4 is None else colours_N4[corner_vertex],
        indices=faces,
        material=material,
    )


def _shading_corners(
    vertices_N3: npt.NDArray[np.float64], faces_F3: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The vertex that each drawn vertex copies, faces over the drawn vertices, and their unit normals.

    Normals are smooth over texture seams (vertices at one place count as one); faces at a crease get their own corners.
    """
    order = np.lexsort(vertices_N3.T)
    steps = np.any(np.diff(vertices_N3[order], axis=0) != 0, axis=1)
    place = np.empty(len(vertices_N3), np.int64)
    place[order] = np.concatenate([[0], np.cumsum(steps)])

    corners_F33 = vertices_N3[faces_F3]
    sides_F33 = np.roll(corners_F33, -1, axis=1) - corners_F33  # from each corner to the next
    flat_F3 = _unit(np.cross(sides_F33[:, 0], sides_F33[:, 1]))
    directions_F33 = _unit(sides_F33)
    cosines_F3 = -np.einsum("fcd,fcd->fc", directions_F33, np.roll(directions_F33, 1, axis=1))
    weighted_F33 = np.arccos(cosines_F3.clip(-1, 1))[..., None] * flat_F3[:, None]  # by angle: however faces are cut
    corner_place = place[faces_F3].reshape(-1)
    num_places = place[order[-1]] + 1
    sums = [np.bincount(corner_place, weighted_F33[..., axis].reshape(-1), num_places) for axis in range(3)]
    smooth_N3 = _unit(np.stack(sums, axis=1))[place]
    smooth_F33 = smooth_N3[faces_F3]
    sharp_F3 = np.einsum("fcd,fd->fc", smooth_F33, flat_F3) < CREASE_COS
    split = sharp_F3.any(axis=1)

    corner_normals = np.where(sharp_F3[split][..., None], flat_F3[split][:, None], smooth_F33[split])
    num_vertices = len(vertices_N3)
    faces = np.array(faces_F3, np.int64)
    faces[split] = num_vertices + np.arange(3 * int(split.sum())).reshape(-1, 3)
    corner_vertex = np.concatenate([np.arange(num_vertices), faces_F3[split].reshape(-1)])
    return corner_vertex, faces, np.concatenate([smooth_N3, corner_normals.reshape(-1, 3)])


def _unit(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Vectors (..., 3) at length 1; zero stays zero."""
    unit: npt.NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)
    return unit

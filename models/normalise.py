"""Any mesh file into the canonical frame: Y up, centred by its bounding box, longest side 1, textures kept.

normalise(MeshFile(Path("boot.obj").read_bytes(), "obj"), up_axis="z").glb
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.geometry import load_scene

UpAxis = Literal["x", "y", "z"]
Triple = tuple[float, float, float]

MESH_TYPES = ("glb", "gltf", "obj", "off", "ply", "stl")

TO_Y_UP: dict[UpAxis, npt.NDArray[np.float64]] = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),  # -Y becomes the front, +Z
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
}
"""Rotations that turn an up axis into +Y."""


@dataclass(frozen=True)
class MeshFile:
    """A mesh file's bytes; type is one of MESH_TYPES. side_files: what it refers to, by the name it uses."""

    data: bytes = field(repr=False)
    type: str
    side_files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Limits:
    """What a mesh may cost."""

    max_triangles: int = 2_000_000
    max_texture_pixels: int = 64_000_000
    """All textures together."""
    block: str = "ingest"
    """Of params.yaml, where they are set: for messages."""


@dataclass(frozen=True)
class Normalised:
    """glb: the mesh in the canonical frame, equal bytes for equal inputs.

    colour: where its colours come from. watertight: every edge has two triangles once equal positions are joined.
    extents, centre: side lengths and middle (x, y, z) of its box in file units, after turning Y up.
    """

    glb: bytes = field(repr=False)
    num_triangles: int
    colour: Literal["texture", "vertex", "material", "none"]
    watertight: bool
    extents: Triple
    centre: Triple


def normalise(mesh_file: MeshFile, *, up_axis: UpAxis = "y", limits: Limits | None = None) -> Normalised:
    """Raises BadInput for what is no triangle mesh (corrupt, empty, points or lines only), not finite or too large."""
    limits = limits or Limits()
    if not mesh_file.data:
        raise BadInput("the file is empty (0 bytes)")
    if mesh_file.type in ("glb", "gltf"):
        _check_accessors(mesh_file, limits)
    scene = load_scene(mesh_file.data, mesh_file.type, _Resolver(mesh_file.side_files))
    parts = _flatten(scene, limits)
    _check_textures(parts, limits)
    extents, centre = _to_canonical(parts, TO_Y_UP[up_axis])
    return Normalised(
        glb=_to_glb(parts),
        num_triangles=sum(len(part.faces) for part in parts),
        colour=_colour(parts),
        watertight=_is_watertight(parts),
        extents=extents,
        centre=centre,
    )


class _Resolver:
    """Hands trimesh the side files by name, and nothing else of the disk."""

    def __init__(self, side_files: Mapping[str, bytes]) -> None:
        self._side_files = side_files

    def get(self, name: str) -> bytes:
        if name not in self._side_files:
            raise FileNotFoundError(f"the mesh refers to {name!r}, which is not there")
        return self._side_files[name]

    __getitem__ = get


def _check_accessors(mesh_file: MeshFile, limits: Limits) -> None:
    """A glTF accessor may claim any count without bytes behind it: refuse before memory is taken for it."""
    header = _gltf_header(mesh_file)
    accessors = header.get("accessors", []) if isinstance(header, dict) else []
    counts = [accessor.get("count", 0) for accessor in accessors if isinstance(accessor, dict)]
    largest = max((count for count in counts if isinstance(count, int)), default=0)
    if largest > 3 * limits.max_triangles:
        raise BadInput(
            f"a list of {largest} elements: more than {limits.max_triangles} triangles ({limits.block}.max_triangles)"
        )


def _gltf_header(mesh_file: MeshFile) -> Any:
    data = mesh_file.data
    if mesh_file.type == "glb":
        if len(data) < 20 or data[:4] != b"glTF":
            raise BadInput("not a GLB: it does not start with a glTF header")
        total, length = struct.unpack_from("<I", data, 8)[0], struct.unpack_from("<I", data, 12)[0]
        if total > len(data):
            raise BadInput(f"truncated: the GLB's header says {total} bytes, the file has {len(data)}")
        data = data[20 : 20 + length]
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not a readable {mesh_file.type}: its JSON is broken ({error})") from error


def _flatten(scene: Any, limits: Limits) -> list[Any]:
    """The scene's triangle meshes as new trimeshes in world space (float64), without unused vertices."""
    import trimesh

    nodes = [scene.graph[node] for node in scene.graph.nodes_geometry]
    found = [(matrix, scene.geometry[name]) for matrix, name in nodes]
    meshes = [(matrix, mesh) for matrix, mesh in found if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces)]
    if not meshes:
        raise BadInput(_why_no_triangles([geometry for _, geometry in found]))
    if (total := sum(len(mesh.faces) for _, mesh in meshes)) > limits.max_triangles:
        raise BadInput(f"{total} triangles are over the limit of {limits.max_triangles} ({limits.block}.max_triangles)")
    return [_placed(mesh, np.asarray(matrix, np.float64)) for matrix, mesh in meshes]


def _why_no_triangles(geometries: list[Any]) -> str:
    if any(len(getattr(geometry, "entities", ())) for geometry in geometries):
        return "it holds lines only, no triangles"
    if any(len(getattr(geometry, "vertices", ())) for geometry in geometries):
        return "it holds points only, no triangles"
    return "it holds no geometry: it is empty, cut off, or of another type than its name says"


def _placed(mesh: Any, matrix: npt.NDArray[np.float64]) -> Any:
    import trimesh

    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise BadInput(f"its vertices have {vertices.shape[-1]} coordinates, not 3")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise BadInput(f"a triangle refers to vertex {int(faces.max())}, there are {len(vertices)}")
    if not np.isfinite(matrix).all():
        raise BadInput("a node's transform is not finite")
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    if num_bad := int((~np.isfinite(vertices[used]).all(axis=1)).sum()):
        raise BadInput(f"{num_bad} of {int(used.sum())} vertices are not finite (NaN or infinite)")
    vertices[~used] = 0
    if np.linalg.det(matrix[:3, :3]) < 0:
        faces = faces[:, ::-1]
    placed = trimesh.Trimesh(
        vertices @ matrix[:3, :3].T + matrix[:3, 3], faces, visual=_own_visual(mesh.visual), process=False
    )
    if not used.all():
        placed.update_vertices(used)
    return placed


def _own_visual(visual: Any) -> Any:
    """A copy that may lose vertices; its material, and so its images, stay the same objects."""
    import trimesh

    if visual.kind == "texture":
        uv = None if visual.uv is None else np.array(visual.uv)
        return trimesh.visual.TextureVisuals(uv=uv, material=visual.material)
    return visual.copy()


def _check_textures(parts: list[Any], limits: Limits) -> None:
    images = {id(image): image for part in parts for image in _images(part)}
    pixels = sum(image.width * image.height for image in images.values())
    if pixels > limits.max_texture_pixels:
        raise BadInput(
            f"textures of {pixels} pixels are over the limit of {limits.max_texture_pixels} "
            f"({limits.block}.max_texture_pixels)"
        )
    for image in images.values():
        _keep_encoding(image)


def _keep_encoding(image: Any) -> None:
    """Decode an image, and have it saved as the bytes it came from: trimesh would encode it anew, larger or lossy."""
    stream = getattr(image, "fp", None)
    encoded = None
    try:
        if stream is not None and image.format in ("PNG", "JPEG"):
            stream.seek(0)
            encoded = stream.read()
            stream.seek(0)
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"a texture is not readable: {error}") from error
    if encoded:
        image.save = lambda file, **_: file.write(encoded)


def _images(part: Any) -> list[Any]:
    material = getattr(part.visual, "material", None)
    names = ("image", "baseColorTexture", "normalTexture", "emissiveTexture", "metallicRoughnessTexture")
    found = [getattr(material, name, None) for name in (*names, "occlusionTexture")]
    return [image for image in found if image is not None]


def _to_canonical(parts: list[Any], rotation_33: npt.NDArray[np.float64]) -> tuple[Triple, Triple]:
    """Turn, centre and scale the parts in place; returns extents and centre before scaling."""
    turned = [np.asarray(part.vertices) @ rotation_33.T for part in parts]
    low = np.min([vertices.min(axis=0) for vertices in turned], axis=0)
    high = np.max([vertices.max(axis=0) for vertices in turned], axis=0)
    with np.errstate(over="ignore"):
        extents = high - low
    longest = float(extents.max())
    if not np.isfinite(longest):
        raise BadInput("the mesh is too large to measure: its extents overflow")
    if longest <= 0:
        raise BadInput("all its vertices lie in one point")
    for part, vertices in zip(parts, turned, strict=True):
        part.vertices = (vertices - (low + high) / 2) / longest
    if sum(float(part.area) for part in parts) <= 0:
        raise BadInput("its triangles have no area")
    return _triple(extents), _triple((low + high) / 2)


def _triple(values_3: npt.NDArray[np.float64]) -> Triple:
    x, y, z = (float(value) for value in values_3)
    return x, y, z


def _to_glb(parts: list[Any]) -> bytes:
    import trimesh

    scene = trimesh.Scene()
    for index, part in enumerate(parts):
        name = f"part_{index:03d}"
        scene.add_geometry(part, geom_name=name, node_name=name)
    data: bytes = scene.export(file_type="glb", include_normals=False)
    return data


def _colour(parts: list[Any]) -> Literal["texture", "vertex", "material", "none"]:
    if any(_images(part) for part in parts):
        return "texture"
    if any(part.visual.kind == "vertex" for part in parts):
        return "vertex"
    if any(part.visual.kind is not None for part in parts):
        return "material"
    return "none"


def _is_watertight(parts: list[Any]) -> bool:
    points_N3 = np.concatenate([part.vertices for part in parts])
    starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces_F3 = np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)])
    _, joined = np.unique(np.round(points_N3, 6), axis=0, return_inverse=True)
    faces_F3 = joined.reshape(-1)[faces_F3]
    proper = (faces_F3 != np.roll(faces_F3, 1, axis=1)).all(axis=1)
    edges_E2 = np.sort(faces_F3[proper][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, counts = np.unique(edges_E2, axis=0, return_counts=True)
    return bool(len(counts) and (counts == 2).all())

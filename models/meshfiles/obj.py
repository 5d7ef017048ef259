"""Wavefront OBJ with its material libraries: polygons of any form, relative indices, groups by material.

trimesh reads OBJ too, but cuts hollow polygons as fans, takes the first library alone and darkens textures without Kd.
"""

from __future__ import annotations

import codecs
import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.colours import rgba_bytes
from models.meshfiles.mtl import MtlMaterial, TextureStatement, read_mtl
from models.meshfiles.parts import Contents, IntArray, Limits, Material, MeshFile, Part, Placed
from models.meshfiles.polygons import cut
from models.meshfiles.text import decoded, parsed
from models.meshfiles.textures import Texture


def read(mesh_file: MeshFile, limits: Limits) -> Contents:
    """One part for each material, in the order in which they are used. Raises BadInput."""
    text = _Text.of(mesh_file.data)
    if not text.faces:
        raise BadInput(text.why_no_triangles())
    positions, colours_N4 = _positions(text.positions)
    uv_N2 = _table("vt", text.uvs)[:, :2] if text.uvs else None
    corners = _corners(text, len(positions), 0 if uv_N2 is None else len(uv_N2))
    limits.check_triangles(int((corners.lengths_P - 2).clip(0).sum()))
    triangles = corners.cut(positions)
    materials = _Materials(text.libraries, mesh_file.side_files)
    parts = []
    have_uv_F = (triangles.uvs_F3 >= 0).all(axis=1)
    for number, name in enumerate(text.materials):
        of_material_F = triangles.materials_F == number
        for has_uv in (True, False):
            chosen_F = of_material_F & (have_uv_F == has_uv)
            if chosen_F.any():
                part = _part(positions, uv_N2 if has_uv else None, colours_N4, triangles, chosen_F)
                parts.append(materials.applied(part, name))
    if not parts:
        raise BadInput("its faces have fewer than three corners each")
    return Contents(tuple(Placed(part) for part in parts), tuple(dict.fromkeys(materials.left_out)))


_UNFINISHED = re.compile(rb"/+(?=\s|$)")
"""Slashes behind which nothing stands: `1/` is written for `1`."""


@dataclass
class _Text:
    """The statements of a file, sorted. faces: what stands behind each `f`; counts: of v and vt before each."""

    positions: list[bytes] = field(default_factory=list)
    uvs: list[bytes] = field(default_factory=list)
    faces: list[bytes] = field(default_factory=list)
    counts: array[int] = field(default_factory=lambda: array("q"))
    face_materials: array[int] = field(default_factory=lambda: array("q"))
    materials: dict[str | None, int] = field(default_factory=lambda: {None: 0})
    libraries: list[str] = field(default_factory=list)
    num_lines_or_points: int = 0

    @staticmethod
    def of(data: bytes) -> _Text:
        text, material = _Text(), 0
        joined = data.removeprefix(codecs.BOM_UTF8).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
        for line in joined.splitlines():
            words = line.split(None, 1)
            if len(words) < 2:
                continue
            key, rest = words
            if key == b"v":
                text.positions.append(rest)
            elif key == b"vt":
                text.uvs.append(rest)
            elif key == b"f":
                text.faces.append(_UNFINISHED.sub(b"", rest.partition(b"#")[0]) if b"/" in rest else rest)
                text.counts.extend((len(text.positions), len(text.uvs)))
                text.face_materials.append(material)
            elif key == b"usemtl":
                material = text.materials.setdefault(decoded(rest.strip()), len(text.materials))
            elif key == b"mtllib":
                text.libraries.append(decoded(rest.strip()))
            elif key in (b"l", b"p"):
                text.num_lines_or_points += 1
        return text

    def why_no_triangles(self) -> str:
        if self.num_lines_or_points:
            return "it holds lines only, no triangles"
        if self.positions:
            return "it holds points only, no triangles"
        return "it holds no geometry: it is empty, cut off, or of another type than its name says"


@dataclass(frozen=True)
class _Triangles:
    """Of every triangle: its vertices, its texture coordinates (-1: none) and the number of its material."""

    vertices_F3: IntArray
    uvs_F3: IntArray
    materials_F: IntArray


@dataclass(frozen=True)
class _Corners:
    """Of every face its number of corners and its material; of every corner its vertex and texture coordinate."""

    lengths_P: IntArray
    materials_P: IntArray
    vertices_C: IntArray
    uvs_C: IntArray

    def cut(self, positions_N3: npt.NDArray[np.float64]) -> _Triangles:
        """As triangles."""
        corners_F3, faces_F = cut(self.lengths_P, self.vertices_C, positions_N3)
        return _Triangles(self.vertices_C[corners_F3], self.uvs_C[corners_F3], self.materials_P[faces_F])


def _table(key: str, rows: list[bytes]) -> npt.NDArray[np.float64]:
    """Rows of numbers, as many in each as all of them have."""
    widths = {len(row.split()) for row in rows}
    if len(widths) == 1:
        flat = _parsed(rows)
        if flat is not None and len(flat) == len(rows) * min(widths):
            return flat.reshape(len(rows), -1)
    split = [row.partition(b"#")[0].split() for row in rows]
    width = min(len(row) for row in split)
    try:
        return np.array([[float(value) for value in row[:width]] for row in split])
    except ValueError as error:
        raise BadInput(f"not a readable obj mesh: a line `{key} ...` holds no numbers ({error})") from error


def _positions(rows: list[bytes]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8] | None]:
    """Vertices (N, 3), and their colours where all of them have some: `v x y z r g b`, up to 1 or up to 255."""
    if not rows:
        raise BadInput("its faces refer to vertices, and it has none")
    table = _table("v", rows)
    if table.shape[1] < 3:
        raise BadInput(f"its vertices have {table.shape[1]} coordinates, not 3")
    if table.shape[1] < 6:
        return table[:, :3], None
    colours = table[:, 3:6]
    return table[:, :3], rgba_bytes(colours / 255 if np.nanmax(colours) > 1 else colours)


def _corners(text: _Text, num_positions: int, num_uvs: int) -> _Corners:
    """All faces. Those of one form are read together: with as many corners, written alike."""
    forms: dict[tuple[int, int, int], list[int]] = {}
    for index, row in enumerate(text.faces):
        forms.setdefault((len(row.split()), row.count(b"/"), row.count(b"//")), []).append(index)
    lengths_P = np.zeros(len(text.faces), np.int64)
    for (num_corners, _, _), rows in forms.items():
        lengths_P[rows] = num_corners
    starts_P = np.cumsum(lengths_P) - lengths_P
    counts_P2 = np.array(text.counts, np.int64).reshape(-1, 2)
    vertices_C, uvs_C = np.full((2, int(lengths_P.sum())), -1, np.int64)
    for (num_corners, slashes, doubles), rows in forms.items():
        if num_corners == 0:
            continue
        indices_PKW = _indices([text.faces[row] for row in rows], num_corners, slashes)
        places_PK = starts_P[rows][:, None] + np.arange(num_corners)
        vertices_C[places_PK] = _absolute(indices_PKW[:, :, 0], counts_P2[rows, 0], num_positions, "vertex")
        if slashes and not doubles:
            uvs_C[places_PK] = _absolute(indices_PKW[:, :, 1], counts_P2[rows, 1], num_uvs, "texture coordinate")
    return _Corners(lengths_P, np.array(text.face_materials, np.int64), vertices_C, uvs_C)


def _indices(rows: list[bytes], num_corners: int, slashes: int) -> IntArray:
    """(P, K, 1 to 3) of faces that are written alike: `1`, `1/2`, `1//3` or `1/2/3`; an absent one is 0."""
    width = 1 + slashes // num_corners
    flat = _parsed([row.replace(b"//", b"/0/").replace(b"/", b" ") for row in rows] if slashes else rows)
    if flat is None or slashes % num_corners or len(flat) != len(rows) * num_corners * width:
        shown = decoded(rows[0].strip()[:60])
        raise BadInput(f"not a readable obj mesh: a face is not understood (`f {shown}` or one like it)")
    return flat.astype(np.int64).reshape(len(rows), num_corners, width)


def _parsed(rows: list[bytes]) -> npt.NDArray[np.float64] | None:
    return parsed(b" ".join(rows).decode("latin-1"))


def _absolute(indices_PK: IntArray, counts_P: IntArray, count: int, what: str) -> IntArray:
    """Indices from 0. Negative ones count back from the last that stands before the face."""
    absolute_PK = np.where(indices_PK < 0, counts_P[:, None] + indices_PK, indices_PK - 1)
    wrong = (absolute_PK < 0) | (absolute_PK >= count)
    if wrong.any():
        raise BadInput(f"a face refers to {what} {int(indices_PK[wrong][0])}, there are {count}")
    return absolute_PK


def _part(
    positions_N3: npt.NDArray[np.float64],
    uv_N2: npt.NDArray[np.float64] | None,
    colours_N4: npt.NDArray[np.uint8] | None,
    triangles: _Triangles,
    chosen_F: npt.NDArray[np.bool_],
) -> Part:
    """The chosen triangles over vertices of their own: one for each pair of a position and a texture coordinate."""
    vertices_F3, uvs_F3 = triangles.vertices_F3[chosen_F], triangles.uvs_F3[chosen_F]
    width = 1 if uv_N2 is None else len(uv_N2)
    pairs_F3 = vertices_F3 * width + (0 if uv_N2 is None else uvs_F3)
    pairs_M, faces = np.unique(pairs_F3, return_inverse=True)
    of_position_M, of_uv_M = np.divmod(pairs_M, width)
    return Part(
        positions_N3[of_position_M],
        faces.reshape(-1, 3).astype(np.int64),
        None if uv_N2 is None else np.stack([uv_N2[of_uv_M, 0], 1 - uv_N2[of_uv_M, 1]], axis=1),
        None if colours_N4 is None else colours_N4[of_position_M],
    )


class _Materials:
    """The materials of all libraries by name; of two with one name the first. left_out: what is missing, in words."""

    def __init__(self, libraries: list[str], side_files: Mapping[str, bytes]) -> None:
        self.left_out: list[str] = []
        self._side_files = side_files
        self._known: dict[str, MtlMaterial] = {}
        self._absent: list[str] = []
        self._made: dict[str, Material] = {}
        for name in _library_names(libraries, side_files):
            if name in side_files:
                self._known = read_mtl(side_files[name]) | self._known
            else:
                self._absent.append(name)

    def applied(self, part: Part, name: str | None) -> Part:
        """The part with the material of that name, its texture coordinates moved as the material says."""
        known = None if name is None else self._known.get(name)
        if known is None:
            if name is not None:
                absent = f"the material library {self._absent[0]!r}" if self._absent else f"the material {name!r}"
                self.left_out.append(f"{absent} is not there")
            return part
        if known.name not in self._made:
            self._made[known.name] = self._material(known)
        material = self._made[known.name]
        if material.texture is None:  # colours of vertices say more than one of the material
            return replace(part, material=material if part.colours_N4 is None else None, uv_N2=None)
        if part.uv_N2 is None:
            self.left_out.append(f"the texture of {known.name!r} has no coordinates on some faces")
            return replace(part, material=replace(material, texture=None))
        return replace(part, material=material, uv_N2=_moved(part.uv_N2, known.texture), colours_N4=None)

    def _material(self, known: MtlMaterial) -> Material:
        diffuse = None if known.diffuse is None else (*known.diffuse, 1.0)
        if known.texture is None:
            return Material(diffuse, stored={"name": known.name})
        if not any(known.diffuse or ()):  # black beside a texture is what exporters leave, not what they mean
            diffuse = None
        encoded = self._side_files.get(known.texture.stated)
        if encoded is None:
            self.left_out.append(f"the texture {known.texture.name!r} is not there")
            return Material(diffuse, stored={"name": known.name})
        texture = Texture(encoded, ("clamp", "clamp") if known.texture.clamp else ("repeat", "repeat"))
        return Material(diffuse, texture, stored={"name": known.name})


def _library_names(statements: list[str], known: Mapping[str, bytes]) -> Iterator[str]:
    """Names of `mtllib` statements: the whole rest of a line where such a file is known, else each of its words."""
    for statement in statements:
        words = statement.split()
        yield from words if statement not in known and any(word in known for word in words) else [statement]


def _moved(uv_N2: Any, statement: TextureStatement | None) -> npt.NDArray[np.float64]:
    """Texture coordinates under a statement's -s and -o, which count v upward."""
    if statement is None or (statement.scale, statement.offset) == ((1.0, 1.0), (0.0, 0.0)):
        return np.asarray(uv_N2)
    upward_N2 = np.stack([uv_N2[:, 0], 1 - uv_N2[:, 1]], axis=1) * statement.scale + statement.offset
    return np.stack([upward_N2[:, 0], 1 - upward_N2[:, 1]], axis=1)

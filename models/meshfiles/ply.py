"""Stanford PLY, text and binary of either byte order: polygons, strips, colours and textures of vertices or faces.

trimesh reads PLY too, but cuts hollow polygons as fans and refuses binary files that mix triangles with other polygons.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.colours import rgba_bytes
from models.meshfiles.parts import Contents, IntArray, Limits, Material, MeshFile, Part, Placed
from models.meshfiles.polygons import cut, strip_triangles
from models.meshfiles.text import decoded, parsed
from models.meshfiles.textures import Texture

TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"int64": "i8", "uint64": "u8", "float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
STRUCT_CODES = dict(zip(("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"), "bBhHiIqQfd", strict=True))
BYTE_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}

CORNERS = ("vertex_indices", "vertex_index")
UVS = (("texture_u", "texture_v"), ("u", "v"), ("s", "t"))
COLOURS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
SPLATS = ({"f_dc_0", "opacity", "scale_0", "rot_0"}, {"packed_position", "packed_rotation"})
"""Properties of vertices by which 3D Gaussians are known: of the reference code, and of SuperSplat's compression."""


def read(mesh_file: MeshFile, limits: Limits) -> Contents:
    """One part for each texture. Raises BadInput."""
    header = Header.parse(mesh_file.data)
    vertex = header.element("vertex")
    if any(names <= {item.name for item in vertex.properties} for names in SPLATS) and not header.has_faces:
        raise BadInput(
            f"it holds {vertex.count} 3D Gaussian splats, not a mesh: export the mesh of the object, "
            "or give the splats as a teacher's output beside its mesh (teachers.imported)"
        )
    for element in header.elements:
        limits.check_list(element.count)
    elements = header.read(mesh_file.data)
    positions_N3 = np.stack([_numbers(elements["vertex"], axis) for axis in "xyz"], axis=1).astype(np.float64)
    faces = _Faces.of(elements, positions_N3, limits)
    return _Surface(header, positions_N3, elements, faces).contents(mesh_file.side_files)


@dataclass(frozen=True)
class Property:
    """length_type: of a list, the type in which each row says how many values it has."""

    name: str
    type: str
    length_type: str | None = None


@dataclass
class Element:
    """count rows of the properties."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


@dataclass(frozen=True)
class Lists:
    """A list property: how many values each row has, and all of them in turn."""

    lengths_P: IntArray
    values_C: npt.NDArray[Any]


Columns = dict[str, "npt.NDArray[Any] | Lists"]


@dataclass
class Header:
    """What stands before the data. body: where the data begin. textures: names of `comment TextureFile`."""

    byte_order: str
    elements: list[Element]
    textures: list[str]
    body: int

    @staticmethod
    def parse(data: bytes) -> Header:
        """Raises BadInput for what is no PLY."""
        if not data.startswith(b"ply"):
            raise BadInput("not a readable ply mesh: it does not start with `ply`")
        end = data.find(b"end_header")
        body = data.find(b"\n", end) + 1
        if end < 0 or body == 0:
            raise BadInput("not a readable ply mesh: its header does not end")
        header = Header("", [], [], body)
        for line in data[:end].splitlines():
            header._take(decoded(line).strip())
        return header

    @property
    def has_faces(self) -> bool:
        return any(element.name in ("face", "tristrips") and element.count for element in self.elements)

    def element(self, name: str) -> Element:
        """Raises BadInput for a PLY without."""
        for element in self.elements:
            if element.name == name:
                return element
        raise BadInput(
            f"not a readable ply mesh: it has no element {name!r}, only {[item.name for item in self.elements]}"
        )

    def _take(self, line: str) -> None:
        """One line of the header."""
        words = line.split()
        try:
            if words[:1] == ["format"]:
                self.byte_order = BYTE_ORDERS[words[1]]
            elif words[:1] == ["element"]:
                self.elements.append(Element(words[1], int(words[2])))
            elif words[:2] == ["property", "list"]:
                self.elements[-1].properties.append(Property(words[4], TYPES[words[3]], TYPES[words[2]]))
            elif words[:1] == ["property"]:
                self.elements[-1].properties.append(Property(words[2], TYPES[words[1]]))
            elif words[:1] == ["comment"] and words[1:2] and words[1].lower() == "texturefile":
                self.textures.append(line.split(None, 2)[2] if len(words) > 2 else "")
        except (LookupError, ValueError) as error:
            raise BadInput(f"not a readable ply mesh: its header says {line!r}") from error

    def read(self, data: bytes) -> dict[str, Columns]:
        """The data of each element; what stands behind them is passed over. Numbers of a text are first made binary."""
        start, order = self.body, self.byte_order
        if not order:
            numbers = parsed(data[self.body :].decode("ascii", "replace"))
            if numbers is None:
                raise BadInput("not a readable ply mesh: its data are not numbers alone")
            data, start = numbers.astype("<f8").tobytes(), 0
        found = {}
        for element in self.elements:
            found[element.name], start = _Rows(element, order).read(data, start)
        return found


class _Rows:
    """The rows of an element as they lie in a file of that byte order; "" is a text, whose numbers all became f8."""

    def __init__(self, element: Element, order: str) -> None:
        self._element, self._order = element, order

    def read(self, data: bytes, start: int) -> tuple[Columns, int]:
        """The columns, and where they end. Rows that are all as long as the first are read at once."""
        element = self._element
        try:
            dtype = self._dtype(data, start)
            end = start + element.count * dtype.itemsize
            if end <= len(data):
                table = np.frombuffer(data, dtype, element.count, start)
                if all((table[name] == table[name][:1]).all() for name in dtype.names or () if name.startswith("#")):
                    return {item.name: self._column(table, item) for item in element.properties}, end
            elif not any(item.length_type for item in element.properties):
                raise BadInput(self._cut_short(f"there are {max(len(data) - start, 0) // dtype.itemsize}"))
            return self._read_one_by_one(data, start)
        except struct.error as error:
            raise BadInput(self._cut_short("there are fewer")) from error

    def _cut_short(self, but: str) -> str:
        element = self._element
        return f"not a readable ply mesh: cut short: its header says {element.count} rows of {element.name!r}, {but}"

    def _dtype(self, data: bytes, start: int) -> np.dtype[Any]:
        """Of one row, if its lists are as long as the first row's."""
        fields: list[tuple[Any, ...]] = []
        for item in self._element.properties:
            length = 0
            if item.length_type is not None:
                fields.append((f"#{item.name}", self._stored(item.length_type)))
                if self._element.count:
                    length = int(struct.unpack_from(self._code(item.length_type), data, start)[0])
                start += fields[-1][1].itemsize
                fields.append((item.name, self._stored(item.type), (length,)))
            else:
                fields.append((item.name, self._stored(item.type)))
            start += fields[-1][1].itemsize * max(length, item.length_type is None)
        return np.dtype(fields)

    def _column(self, table: npt.NDArray[Any], item: Property) -> npt.NDArray[Any] | Lists:
        values = table[item.name].astype(item.type)
        if item.length_type is None:
            return values
        return Lists(np.full(len(values), values.shape[1], np.int64), values.reshape(-1))

    def _read_one_by_one(self, data: bytes, start: int) -> tuple[Columns, int]:
        """Rows whose lists differ in length."""
        values: dict[str, list[float]] = {item.name: [] for item in self._element.properties}
        lengths: dict[str, list[int]] = {item.name: [] for item in self._element.properties}
        for _ in range(self._element.count):
            for item in self._element.properties:
                length = 1
                if item.length_type is not None:
                    length = int(struct.unpack_from(self._code(item.length_type), data, start)[0])
                    start += self._stored(item.length_type).itemsize
                code = self._code(item.type, length)
                values[item.name] += struct.unpack_from(code, data, start)
                lengths[item.name].append(length)
                start += struct.calcsize(code)
        columns: Columns = {}
        for item in self._element.properties:
            column = np.array(values[item.name], item.type)
            is_list = item.length_type is not None
            columns[item.name] = Lists(np.array(lengths[item.name], np.int64), column) if is_list else column
        return columns, start

    def _stored(self, kind: str) -> np.dtype[Any]:
        return np.dtype(f"{self._order}{kind}" if self._order else "<f8")

    def _code(self, kind: str, length: int = 1) -> str:
        """For struct."""
        return f"{self._order}{length}{STRUCT_CODES[kind]}" if self._order else f"<{length}d"


@dataclass(frozen=True)
class _Faces:
    """Triangles: their vertices, their corners in the file's lists, and the face from which each was cut."""

    vertices_F3: IntArray
    corners_F3: IntArray
    rows_F: IntArray

    @staticmethod
    def of(elements: dict[str, Columns], positions_N3: npt.NDArray[np.float64], limits: Limits) -> _Faces:
        """Of the polygons, else of the strips."""
        if (lists := _corners(elements.get("face", {}))) is not None and len(lists.values_C):
            limits.check_triangles(int((lists.lengths_P - 2).clip(0).sum()))
            vertices_C = lists.values_C.astype(np.int64)
            _check_range(vertices_C, len(positions_N3))
            corners_F3, rows_F = cut(lists.lengths_P, vertices_C, positions_N3)
            return _Faces(vertices_C[corners_F3], corners_F3, rows_F)
        if (lists := _corners(elements.get("tristrips", {}))) is not None and len(lists.values_C):
            limits.check_triangles(len(lists.values_C))
            vertices_F3 = _strips(lists)
            _check_range(vertices_F3, len(positions_N3))
            return _Faces(vertices_F3, np.zeros_like(vertices_F3), np.zeros(len(vertices_F3), np.int64))
        what = "points only, no triangles" if len(positions_N3) else "no geometry: it is empty"
        raise BadInput(f"it holds {what}")


class _Surface:
    """Faces with what colours them: a texture, else their vertices, else they themselves."""

    def __init__(
        self, header: Header, positions_N3: npt.NDArray[np.float64], elements: dict[str, Columns], faces: _Faces
    ) -> None:
        self._names, self._positions_N3, self._faces = header.textures, positions_N3, faces
        self._vertex, self._face = elements["vertex"], elements.get("face", {})
        self._left_out: list[str] = []

    def contents(self, side_files: Mapping[str, bytes]) -> Contents:
        textures = [self._texture(name, side_files) for name in self._names]
        parts = []
        if any(textures):
            numbers_F = self._texture_numbers()
            for number in np.unique(numbers_F):
                texture = textures[number] if 0 <= number < len(textures) else None
                parts.append(self._part(numbers_F == number, texture))
        else:
            parts.append(self._part(np.ones(len(self._faces.rows_F), bool), None))
        return Contents(tuple(Placed(part) for part in parts), tuple(dict.fromkeys(self._left_out)))

    def _texture(self, name: str, side_files: Mapping[str, bytes]) -> Texture | None:
        if name not in side_files:
            self._left_out.append(f"the texture {name!r} is not there")
            return None
        return Texture(side_files[name])

    def _texture_numbers(self) -> IntArray:
        """The texture of each triangle."""
        numbers = self._face.get("texnumber")
        if not isinstance(numbers, np.ndarray):
            return np.zeros(len(self._faces.rows_F), np.int64)
        return numbers.astype(np.int64)[self._faces.rows_F]

    def _part(self, chosen_F: npt.NDArray[np.bool_], texture: Texture | None) -> Part:
        vertices_F3 = self._faces.vertices_F3[chosen_F]
        if texture is not None and (uv_F32 := self._uv(chosen_F, vertices_F3)) is not None:
            table = np.concatenate([vertices_F3[..., None].astype(np.float64), uv_F32], axis=2).reshape(-1, 3)
            rows_M3, faces = np.unique(table, axis=0, return_inverse=True)
            uv_M2 = np.stack([rows_M3[:, 1], 1 - rows_M3[:, 2]], axis=1)
            positions_M3 = self._positions_N3[rows_M3[:, 0].astype(np.int64)]
            return Part(positions_M3, faces.reshape(-1, 3).astype(np.int64), uv_M2, material=Material(texture=texture))
        if texture is not None:
            self._left_out.append("a texture has no coordinates")
        if (colours_N4 := _colours(self._vertex)) is not None or (colours_P4 := _colours(self._face)) is None:
            return Part(self._positions_N3, vertices_F3, colours_N4=colours_N4)
        positions = self._positions_N3[vertices_F3.reshape(-1)]
        colours = np.repeat(colours_P4[self._faces.rows_F[chosen_F]], 3, axis=0)
        return Part(positions, np.arange(len(positions)).reshape(-1, 3), colours_N4=colours)

    def _uv(self, chosen_F: npt.NDArray[np.bool_], vertices_F3: IntArray) -> npt.NDArray[np.float64] | None:
        """Texture coordinates (F, 3, 2) of the corners, v upward: those of faces, else of vertices."""
        of_faces = self._face.get("texcoord")
        lists = _corners(self._face)
        if isinstance(of_faces, Lists) and lists is not None and (of_faces.lengths_P == 2 * lists.lengths_P).all():
            return of_faces.values_C.reshape(-1, 2)[self._faces.corners_F3[chosen_F]].astype(np.float64)
        for names in UVS:
            if names[0] in self._vertex and names[1] in self._vertex:
                uv_N2 = np.stack([_numbers(self._vertex, name) for name in names], axis=1)
                return uv_N2[vertices_F3].astype(np.float64)
        return None


def _corners(face: Columns) -> Lists | None:
    """The list of an element that names vertices."""
    for name in CORNERS:
        if isinstance(found := face.get(name), Lists):
            return found
    return None


def _strips(lists: Lists) -> IntArray:
    """Triangles of strips, which end where their row does and at every -1."""
    faces = [np.zeros((0, 3), np.int64)]
    for row in np.split(lists.values_C.astype(np.int64), np.cumsum(lists.lengths_P)[:-1]):
        for strip in np.split(row, np.flatnonzero(row < 0)):
            strip = strip[strip >= 0]
            if len(strip) > 2:
                faces.append(strip_triangles(strip))
    return np.concatenate(faces)


def _check_range(vertices: IntArray, count: int) -> None:
    if vertices.size and not 0 <= vertices.min() <= vertices.max() < count:
        raise BadInput(f"a triangle refers to vertex {vertices.max()}, there are {count}")


def _numbers(columns: Columns, name: str) -> npt.NDArray[Any]:
    column = columns.get(name)
    if not isinstance(column, np.ndarray):
        raise BadInput(f"not a readable ply mesh: its vertices have no {name!r}")
    return column


def _colours(columns: Columns) -> npt.NDArray[np.uint8] | None:
    """RGBA (N, 4), or None for an element without colours."""
    for names in COLOURS:
        if all(isinstance(columns.get(name), np.ndarray) for name in names):
            alpha = (names[0].replace("red", "alpha") if "red" in names[0] else "a",)
            known = [*names, *(name for name in alpha if isinstance(columns.get(name), np.ndarray))]
            return rgba_bytes(np.stack([_numbers(columns, name) for name in known], axis=1))
    return None

"""A glTF under construction, and what tests ask of what was read.

gltf = Gltf()
box = gltf.mesh({"POSITION": gltf.accessor(BOX_VERTICES)}, indices=gltf.accessor(BOX_FACES))
gltf.node(mesh=box, translation=[2, 0, 0])
extents(gltf.glb())
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh

from models.meshfiles import UNLIMITED, Contents, Limits, MeshFile, concatenated, read

CASES = Path(__file__).parents[3].parent / "shared" / "cases"

_BOX = trimesh.creation.box((1, 0.6, 0.4))
BOX_VERTICES = np.asarray(_BOX.vertices, "<f4")
BOX_FACES = np.asarray(_BOX.faces, "<u2").reshape(-1)

COMPONENT_TYPES = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Gltf:
    """Appends to the lists of a header; what is appended is named by the index returned."""

    def __init__(self) -> None:
        self.header: dict[str, Any] = {"asset": {"version": "2.0", "generator": "test"}}
        self.binary = bytearray()
        self.further_buffers: list[dict[str, Any]] = []

    def add(self, kind: str, entry: dict[str, Any]) -> int:
        entries = self.header.setdefault(kind, [])
        entries.append(entry)
        return len(entries) - 1

    def view(self, data: bytes, **more: Any) -> int:
        start = len(self.binary)
        self.binary += data + b"\0" * (-len(data) % 4)
        return self.add("bufferViews", {"buffer": 0, "byteOffset": start, "byteLength": len(data)} | more)

    def accessor(self, values: npt.ArrayLike, **more: Any) -> int:
        array = np.asarray(values)
        if array.dtype == np.float64:
            array = array.astype("<f4")
        columns = array.reshape(len(array), -1).shape[1]
        entry = {
            "bufferView": self.view(array.tobytes()),
            "componentType": COMPONENT_TYPES[array.dtype.str[1:]],
            "count": len(array),
            "type": KINDS[columns],
        }
        return self.add("accessors", entry | more)

    def mesh(self, attributes: dict[str, int], **more: Any) -> int:
        """Of one primitive. mesh_: keys of the mesh itself."""
        of_mesh = {key.removeprefix("mesh_"): more.pop(key) for key in list(more) if key.startswith("mesh_")}
        return self.add("meshes", {"primitives": [{"attributes": attributes} | more], **of_mesh})

    def box(self, **more: Any) -> int:
        return self.mesh(
            {"POSITION": self.accessor(BOX_VERTICES)} | more.pop("attributes", {}),
            indices=self.accessor(BOX_FACES),
            **more,
        )

    def node(self, **entry: Any) -> int:
        """A root of the one scene."""
        index = self.add("nodes", entry)
        self.header.setdefault("scenes", [{"nodes": []}])[0]["nodes"].append(index)
        return index

    def texture(self, encoded: bytes, **sampler: int) -> int:
        image = self.add("images", {"bufferView": self.view(encoded), "mimeType": "image/png"})
        entry = {"source": image} | ({"sampler": self.add("samplers", sampler)} if sampler else {})
        return self.add("textures", entry)

    def glb(self) -> MeshFile:
        buffers = [{"byteLength": len(self.binary)}, *self.further_buffers]
        header = self.header | ({"buffers": buffers} if self.binary else {})
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
        if self.binary:
            chunks += struct.pack("<II", len(self.binary), 0x004E4942) + self.binary
        return MeshFile(b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks, "glb")


def glb_of_box(**header: Any) -> MeshFile:
    """A box, in a file whose header says these things too."""
    gltf = Gltf()
    gltf.node(mesh=gltf.box())
    gltf.header |= header
    return gltf.glb()


def case(path: str) -> MeshFile:
    """An input of ../shared/cases."""
    file = CASES / path
    return MeshFile(file.read_bytes(), file.suffix[1:])


def contents(mesh_file: MeshFile, limits: Limits = UNLIMITED) -> Contents:
    return read(mesh_file, limits)


def whole(mesh_file: MeshFile) -> trimesh.Trimesh:
    """All parts as one mesh."""
    vertices_N3, faces_F3 = concatenated(list(read(mesh_file).parts()))
    return trimesh.Trimesh(vertices_N3, faces_F3, process=False)


def extents(mesh_file: MeshFile) -> list[float]:
    """Of what its triangles use, to five digits."""
    return [round(float(side), 5) for side in whole(mesh_file).extents]


def colours(mesh_file: MeshFile) -> list[list[int]]:
    """sRGB of every vertex of every part, as it is seen."""
    rows: list[list[int]] = []
    for part in read(mesh_file).parts():
        seen = part.vertex_colours()
        assert seen is not None
        rows += seen[:, :3].tolist()
    return rows


def image(*rows: list[tuple[int, int, int]], kind: str = "PNG", **options: Any) -> bytes:
    """An encoded image of these rows of pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.array(rows, np.uint8)).save(buffer, format=kind, **options)
    return buffer.getvalue()

"""A GLB that every reader takes: core glTF 2.0, images as PNG or JPEG, vertex colours linear. Equal parts, equal bytes.

trimesh could write one too, but stores sRGB colours as if they were linear, and encodes images anew.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.meshfiles.colours import linear_from_srgb
from models.meshfiles.gltf.document import BINARY_CHUNK, JSON_CHUNK, MAGIC
from models.meshfiles.parts import Material, Part
from models.meshfiles.textures import GL_CODES, Texture

GENERATOR = "lostwax"
COMPONENT_TYPES = {"<u4": 5125, "<f4": 5126}


def write(parts: Sequence[Part]) -> bytes:
    """The parts that have triangles, one node each."""
    return _Writer().glb([part for part in parts if len(part.faces_F3)])


class _Writer:
    def __init__(self) -> None:
        self._header: dict[str, list[dict[str, Any]]] = {}
        self._binary = bytearray()
        self._materials: dict[int, int] = {}
        self._textures: dict[tuple[bytes, tuple[str, str]], int] = {}
        self._images: dict[bytes, int] = {}

    def glb(self, parts: Sequence[Part]) -> bytes:
        primitives = [self._primitive(part) for part in parts]
        meshes = [{"name": f"part_{number:03d}", "primitives": [of]} for number, of in enumerate(primitives)]
        nodes = [{"name": mesh["name"], "mesh": number} for number, mesh in enumerate(meshes)]
        header: dict[str, Any] = {
            "asset": {"version": "2.0", "generator": GENERATOR},
            "scene": 0,
            "scenes": [{"nodes": list(range(len(nodes)))} if nodes else {}],
        }
        if parts:
            self._header |= {"meshes": meshes, "nodes": nodes, "buffers": [{"byteLength": len(self._binary)}]}
        text = json.dumps(header | self._header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), JSON_CHUNK) + text
        if self._binary:
            chunks += struct.pack("<II", len(self._binary), BINARY_CHUNK) + self._binary
        return MAGIC + struct.pack("<II", 2, 12 + len(chunks)) + chunks

    def _primitive(self, part: Part) -> dict[str, Any]:
        positions_N3 = np.asarray(part.vertices_N3, "<f4")
        bounds = {"min": positions_N3.min(axis=0).tolist(), "max": positions_N3.max(axis=0).tolist()}
        attributes = {"POSITION": self._accessor(positions_N3, "VEC3", **bounds)}
        if part.uv_N2 is not None:
            attributes["TEXCOORD_0"] = self._accessor(np.asarray(part.uv_N2, "<f4"), "VEC2")
        if part.colours_N4 is not None:
            attributes["COLOR_0"] = self._colours(part.colours_N4)
        indices = self._accessor(np.asarray(part.faces_F3, "<u4").reshape(-1), "SCALAR")
        primitive: dict[str, Any] = {"attributes": attributes, "indices": indices}
        if part.material is not None:
            primitive["material"] = self._material(part.material)
        return primitive

    def _colours(self, colours_N4: npt.NDArray[np.uint8]) -> int:
        """As float32, in which sRGB's dark steps survive; 16-bit ones are read wrongly by trimesh 5."""
        linear = linear_from_srgb(colours_N4 / 255).astype("<f4")
        if (colours_N4[:, 3] == 255).all():
            return self._accessor(linear[:, :3], "VEC3")
        return self._accessor(linear, "VEC4")

    def _material(self, material: Material) -> int:
        if id(material) not in self._materials:
            pbr = dict(material.stored.get("pbrMetallicRoughness", {}))
            entry: dict[str, Any] = {**material.stored, "pbrMetallicRoughness": pbr}
            if material.base_colour is not None:
                pbr["baseColorFactor"] = list(material.base_colour)
            if material.alpha_cutoff is not None:
                entry |= {"alphaMode": "MASK", "alphaCutoff": material.alpha_cutoff}
            if material.texture is not None:
                pbr["baseColorTexture"] = {"index": self._texture(material.texture)}
            for name, texture in material.maps.items():
                place = pbr if name.startswith("metallic") else entry
                place[name] = {"index": self._texture(texture)}
            self._materials[id(material)] = self._append("materials", entry)
        return self._materials[id(material)]

    def _texture(self, texture: Texture) -> int:
        key = (texture.encoded, texture.wrap)
        if key not in self._textures:
            if texture.encoded not in self._images:
                encoded, mime_type = texture.for_gltf()
                image = {"bufferView": self._view(encoded), "mimeType": mime_type}
                self._images[texture.encoded] = self._append("images", image)
            entry = {"source": self._images[texture.encoded]}
            if texture.wrap != ("repeat", "repeat"):
                sampler = {"wrapS": GL_CODES[texture.wrap[0]], "wrapT": GL_CODES[texture.wrap[1]]}
                entry["sampler"] = self._append("samplers", sampler)
            self._textures[key] = self._append("textures", entry)
        return self._textures[key]

    def _accessor(self, values: npt.NDArray[Any], kind: str, **bounds: list[float]) -> int:
        entry = {
            "bufferView": self._view(values.tobytes()),
            "componentType": COMPONENT_TYPES[values.dtype.str],
            "count": len(values),
            "type": kind,
        }
        return self._append("accessors", entry | bounds)

    def _view(self, data: bytes) -> int:
        start = len(self._binary)
        self._binary += data + b"\0" * (-len(data) % 4)
        return self._append("bufferViews", {"buffer": 0, "byteOffset": start, "byteLength": len(data)})

    def _append(self, kind: str, entry: dict[str, Any]) -> int:
        entries = self._header.setdefault(kind, [])
        entries.append(entry)
        return len(entries) - 1

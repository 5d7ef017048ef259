"""A glTF file as its JSON header and the bytes that the header points to."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from models.errors import BadInput
from models.meshfiles.parts import MeshFile

MAGIC = b"glTF"
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942

MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression", "MESHOPT_compression")


class Document:
    """Entries of the header by kind and index, buffer views and images as bytes. What is amiss raises BadInput."""

    def __init__(self, header: dict[str, Any], binary: bytes | None, side_files: Mapping[str, bytes]) -> None:
        self.header = header
        self._binary, self._side_files = binary, side_files
        self._buffers: dict[int, bytes] = {}

    @staticmethod
    def parse(mesh_file: MeshFile) -> Document:
        """A GLB or a .gltf: which of the two is told by the bytes, not by the name."""
        data = mesh_file.data
        if not data.startswith(MAGIC):
            if mesh_file.type == "glb" and not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
                raise BadInput("not a GLB: it does not start with a glTF header")
            return Document(read_json(data), None, mesh_file.side_files)
        text, binary = glb_chunks(data)
        return Document(read_json(text), binary, mesh_file.side_files)

    @property
    def written_by_trimesh(self) -> bool:
        """trimesh writes sRGB vertex colours as they are, though glTF's are linear, and a grey before every texture."""
        return "trimesh" in str(self.header.get("asset", {}).get("generator", ""))

    def entry(self, kind: str, index: Any) -> dict[str, Any]:
        """An entry of one of the header's lists."""
        entries = self.header.get(kind, [])
        if not isinstance(index, int) or not 0 <= index < len(entries):
            raise BadInput(f"it refers to {kind}[{index}], there are {len(entries)}")
        entry = entries[index]
        if not isinstance(entry, dict):
            raise BadInput(f"{kind}[{index}] is no JSON object")
        return entry

    def view(self, index: Any) -> tuple[memoryview, int | None]:
        """The bytes of a buffer view, and its stride."""
        view = self.entry("bufferViews", index)
        self._check_fallback(view)
        data = self._buffer(view["buffer"])
        start, length = view.get("byteOffset", 0), view["byteLength"]
        if start < 0 or length < 0 or start + length > len(data):
            raise BadInput(f"truncated: a buffer view ends at byte {start + length}, its buffer has {len(data)}")
        return memoryview(data)[start : start + length], view.get("byteStride")

    def image(self, index: Any) -> bytes | None:
        """The bytes of an image; None where they lie in a file that is not there."""
        image = self.entry("images", index)
        if "bufferView" in image:
            return bytes(self.view(image["bufferView"])[0])
        return self._resource(image["uri"])

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = self.entry("buffers", index)
            if "uri" not in buffer:
                data = self._binary if index == 0 else None
                if data is None:
                    raise BadInput(f"its buffer {index} has no data")
            elif (data := self._resource(buffer["uri"])) is None:
                raise BadInput(f"the mesh refers to {buffer['uri']!r}, which is not there: lay it beside")
            self._buffers[index] = data
        return self._buffers[index]

    def _resource(self, uri: str) -> bytes | None:
        if not uri.startswith("data:"):
            return self._side_files.get(uri)
        kind, _, content = uri.partition(",")
        return base64.b64decode(content) if kind.endswith(";base64") else unquote_to_bytes(content)

    def _check_fallback(self, view: dict[str, Any]) -> None:
        """A compressed view is read where its file also has it plain."""
        for name in MESHOPT:
            if name in view.get("extensions", {}):
                buffer = self.entry("buffers", view["buffer"])
                if "uri" not in buffer and (view["buffer"] != 0 or name in buffer.get("extensions", {})):
                    raise BadInput(meshopt_message(name))


def glb_chunks(data: bytes) -> tuple[bytes, bytes | None]:
    """The JSON and the binary chunk of a GLB."""
    if len(data) < 20:
        raise BadInput(f"truncated: a GLB's header has 20 bytes, the file has {len(data)}")
    version, total = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise BadInput(f"it is of glTF {version}: export it again as glTF 2.0")
    if total > len(data):
        raise BadInput(f"truncated: the GLB's header says {total} bytes, the file has {len(data)}")
    chunks: dict[int, bytes] = {}
    start = 12
    while start + 8 <= total:
        length, kind = struct.unpack_from("<II", data, start)
        if start + 8 + length > len(data):
            raise BadInput(f"truncated: a chunk of the GLB ends at byte {start + 8 + length} of {len(data)}")
        chunks.setdefault(kind, data[start + 8 : start + 8 + length])
        start += 8 + length
    if JSON_CHUNK not in chunks:
        raise BadInput("not a readable gltf: it has no JSON chunk")
    return chunks[JSON_CHUNK], chunks.get(BINARY_CHUNK)


def read_json(text: bytes) -> dict[str, Any]:
    """The header of a glTF 2.0: a byte order mark before it and padding of any kind behind it are passed over."""
    try:
        header = json.loads(text.decode("utf-8-sig", "replace").rstrip("\0 \t\r\n"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not a readable gltf: its JSON is broken ({error})") from error
    if not isinstance(header, dict):
        raise BadInput("not a readable gltf: its JSON is no object")
    asset = header.get("asset")
    version = str(asset.get("version", "2.0")) if isinstance(asset, dict) else "2.0"
    if not version.startswith("2"):
        raise BadInput(f"it is of glTF {version}: export it again as glTF 2.0")
    return header


def meshopt_message(name: str) -> str:
    """What to do with a file that is compressed with meshoptimizer."""
    return (
        f"its buffers are compressed with meshoptimizer ({name}), which is not read here: "
        "store them plain with `gltfpack -i IN.glb -o OUT.glb -noq`"
    )

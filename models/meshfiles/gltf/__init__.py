"""glTF 2.0 (.glb, .gltf), read whole or refused: nothing that a file requires is guessed.

Decoded are sparse, normalised and quantised accessors, strips and fans, morph weights, skins in the pose that the nodes
hold, instancing, texture transforms and channels, wrap modes, WebP and AVIF, linear vertex colours of any width, the
default scene alone. Refused with what to do: Draco, meshoptimizer, KTX2, splats, extensions that nobody here knows.
"""

from __future__ import annotations

import struct
from typing import Any

from models.errors import BadInput
from models.meshfiles.gltf import extensions
from models.meshfiles.gltf.document import Document
from models.meshfiles.gltf.materials import Materials
from models.meshfiles.gltf.nodes import Nodes, instances
from models.meshfiles.gltf.primitives import FAN, POINTS, STRIP, TRIANGLES, Primitive, Reader
from models.meshfiles.gltf.skins import skinned
from models.meshfiles.gltf.writing import write
from models.meshfiles.parts import Contents, Limits, MeshFile, Placed

__all__ = ["read", "write"]


def read(mesh_file: MeshFile, limits: Limits) -> Contents:
    """What the default scene shows. Raises BadInput."""
    try:
        document = Document.parse(mesh_file)
        extensions.check(document)
        return _Scene(document, limits).contents()
    except BadInput:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as error:
        raise BadInput(f"not a readable gltf: {type(error).__name__}: {error}") from error


class _Scene:
    """One pass over the nodes that are shown."""

    def __init__(self, document: Document, limits: Limits) -> None:
        self._document, self._limits = document, limits
        self._nodes = Nodes(document)
        self._materials = Materials(document)
        self._reader = Reader(document, self._materials, limits)
        self._shapes: dict[tuple[int, tuple[float, ...]], list[Primitive]] = {}

    def contents(self) -> Contents:
        for accessor in self._document.header.get("accessors", []):
            self._limits.check_list(accessor["count"])
        placed = [
            placed
            for index in self._nodes.shown()
            if "mesh" in self._nodes.node(index)
            for placed in self._placed(index, self._nodes.node(index))
        ]
        if not placed:
            raise BadInput(self._why_no_triangles())
        return Contents(tuple(placed), tuple(dict.fromkeys(self._materials.left_out)))

    def _placed(self, index: int, node: dict[str, Any]) -> list[Placed]:
        """The parts of one node's mesh."""
        shapes = self._shapes_of(node)
        if "skin" in node:
            parts = [skinned(self._document, self._nodes, node["skin"], shape, self._limits) for shape in shapes]
            return [Placed(part) for part in parts]
        num_triangles = sum(len(shape.part.faces_F3) for shape in shapes)
        copies_I44 = instances(self._document, node, self._limits, num_triangles)
        return [Placed(shape.part, self._nodes.worlds[index] @ copies_I44) for shape in shapes]

    def _shapes_of(self, node: dict[str, Any]) -> list[Primitive]:
        """The primitives of a node's mesh, under the node's morph weights, else under the mesh's."""
        mesh = self._document.entry("meshes", node["mesh"])
        weights = tuple(float(weight) for weight in node.get("weights", mesh.get("weights", ())))
        key = (node["mesh"], weights)
        if key not in self._shapes:
            shapes = [self._reader.shape(primitive, weights) for primitive in mesh["primitives"]]
            self._shapes[key] = [shape for shape in shapes if shape is not None]
        return self._shapes[key]

    def _why_no_triangles(self) -> str:
        kinds = self._reader.kinds
        if kinds & {TRIANGLES, STRIP, FAN}:
            return "its triangles are empty lists"
        if kinds:
            return f"it holds {'points' if kinds == {POINTS} else 'lines'} only, no triangles"
        if self._document.header.get("meshes"):
            return "its scene shows no mesh: export it again with the object in the default scene"
        return "it holds no geometry: it has no mesh"

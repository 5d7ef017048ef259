"""The tree of nodes: which of them the default scene shows, and where they stand in the world."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.gltf import accessors
from models.meshfiles.gltf.document import Document
from models.meshfiles.gltf.extensions import INSTANCING, VISIBILITY
from models.meshfiles.parts import Limits

Matrix = npt.NDArray[np.float64]


class Nodes:
    """All nodes of a file. worlds: matrix (4, 4) of each, from its own space to the world."""

    def __init__(self, document: Document) -> None:
        self._nodes = [document.entry("nodes", index) for index in range(len(document.header.get("nodes", [])))]
        self._document = document
        self._parents = self._find_parents()
        self.worlds = self._find_worlds()

    def shown(self) -> list[int]:
        """Indices of the nodes that the default scene shows, in the order of the file."""
        found: dict[int, None] = {}
        pending = list(reversed(self._roots()))
        while pending:
            index = pending.pop()
            if index not in found and self.node(index).get("extensions", {}).get(VISIBILITY, {}).get("visible", True):
                found[index] = None
                pending += reversed(self.node(index).get("children", []))
        return list(found)

    def node(self, index: int) -> dict[str, Any]:
        """The header's entry."""
        if not isinstance(index, int) or not 0 <= index < len(self._nodes):
            raise BadInput(f"it refers to nodes[{index}], there are {len(self._nodes)}")
        return self._nodes[index]

    def _roots(self) -> list[int]:
        """Of the default scene; of the first where none is named; in a file without scenes, what has no parent."""
        if not self._document.header.get("scenes"):
            return [index for index in range(len(self._nodes)) if index not in self._parents]
        scene = self._document.entry("scenes", self._document.header.get("scene", 0))
        return list(dict.fromkeys(scene.get("nodes", [])))

    def _find_parents(self) -> dict[int, int]:
        parents: dict[int, int] = {}
        for index, node in enumerate(self._nodes):
            for child in node.get("children", []):
                self.node(child)
                if child in parents:
                    raise BadInput(f"its nodes are no tree: nodes[{child}] has two parents")
                parents[child] = index
        return parents

    def _find_worlds(self) -> list[Matrix]:
        worlds: list[Matrix | None] = [None] * len(self._nodes)
        pending = [(index, np.eye(4)) for index in range(len(self._nodes)) if index not in self._parents]
        while pending:
            index, parent = pending.pop()
            worlds[index] = world = parent @ _local(self._nodes[index])
            pending += [(child, world) for child in self._nodes[index].get("children", [])]
        reached = [world for world in worlds if world is not None]
        if len(reached) < len(worlds):
            raise BadInput("its nodes are no tree: some are their own children")
        return reached


def instances(document: Document, node: dict[str, Any], limits: Limits, num_triangles: int) -> Matrix:
    """Matrices (I, 4, 4) of the copies of a node's mesh, in the node's space: one without instancing."""
    extension = node.get("extensions", {}).get(INSTANCING)
    if extension is None:
        return np.eye(4)[None]
    attributes = extension["attributes"]
    known = [attributes[name] for name in ("TRANSLATION", "ROTATION", "SCALE") if name in attributes]
    if not known:
        raise BadInput(f"its copies ({INSTANCING}) have no places")
    count = document.entry("accessors", known[0])["count"]
    limits.check_triangles(count * num_triangles)

    def values(name: str, default: tuple[float, ...]) -> npt.NDArray[np.float64]:
        if name not in attributes:
            return np.tile(default, (count, 1))
        read = accessors.read(document, attributes[name], limits).astype(np.float64)
        if read.shape != (count, len(default)):
            raise BadInput(f"its copies ({INSTANCING}) have {read.shape} values of {name} for {count} places")
        return read

    return composed(values("TRANSLATION", (0, 0, 0)), values("ROTATION", (0, 0, 0, 1)), values("SCALE", (1, 1, 1)))


def composed(translations_I3: Matrix, rotations_I4: Matrix, scales_I3: Matrix) -> Matrix:
    """Matrices (I, 4, 4) that scale, turn (unit quaternions xyzw) and move, in this order."""
    lengths = np.linalg.norm(rotations_I4, axis=1, keepdims=True)
    x, y, z, w = np.where(lengths > 0, rotations_I4 / np.where(lengths > 0, lengths, 1), (0, 0, 0, 1)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrices = np.tile(np.eye(4), (len(translations_I3), 1, 1))
    matrices[:, :3, :3] = np.moveaxis(np.array(rows), 2, 0) * scales_I3[:, None, :]
    matrices[:, :3, 3] = translations_I3
    return matrices


def _local(node: dict[str, Any]) -> Matrix:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    translation = np.array([node.get("translation", (0, 0, 0))], np.float64)
    rotation = np.array([node.get("rotation", (0, 0, 0, 1))], np.float64)
    scale = np.array([node.get("scale", (1, 1, 1))], np.float64)
    local: Matrix = composed(translation, rotation, scale)[0]
    return local

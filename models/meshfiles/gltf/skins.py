"""Skins: where the joints, as the nodes hold them, move the vertices. Animations are not played."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.gltf import accessors
from models.meshfiles.gltf.document import Document
from models.meshfiles.gltf.nodes import Nodes
from models.meshfiles.gltf.primitives import Primitive
from models.meshfiles.parts import Limits, Part


def skinned(document: Document, nodes: Nodes, skin_index: Any, shape: Primitive, limits: Limits) -> Part:
    """The part in the world. A vertex that no weight moves follows its first joint."""
    joints_NJ, weights_NJ = shape.joints_NJ, shape.weights_NJ
    if joints_NJ is None or weights_NJ is None:
        raise BadInput("a mesh with a skin says no joints of its vertices (JOINTS_0)")
    matrices_K44 = _joint_matrices(document, nodes, document.entry("skins", skin_index), limits)
    vertices_N3 = np.asarray(shape.part.vertices_N3, np.float64)
    if joints_NJ.shape != weights_NJ.shape or len(joints_NJ) != len(vertices_N3):
        raise BadInput("a mesh with a skin has joints and weights of other numbers than vertices")
    if joints_NJ.max() >= len(matrices_K44):
        raise BadInput(f"a vertex follows joint {joints_NJ.max()} of {len(matrices_K44)}")
    sums_N = weights_NJ.sum(axis=1, keepdims=True)
    alone = np.zeros_like(weights_NJ)
    alone[:, 0] = 1
    weights_NJ = np.where(sums_N > 0, weights_NJ / np.where(sums_N > 0, sums_N, 1), alone)

    moved_N3 = np.zeros_like(vertices_N3)
    for joint_N, weight_N in zip(joints_NJ.T, weights_NJ.T, strict=True):
        matrix_N44 = matrices_K44[joint_N]
        turned_N3 = np.einsum("nij,nj->ni", matrix_N44[:, :3, :3], vertices_N3) + matrix_N44[:, :3, 3]
        moved_N3 += weight_N[:, None] * turned_N3
    mirrors_K = np.linalg.det(matrices_K44[:, :3, :3]) < 0
    mirrored = (weights_NJ * mirrors_K[joints_NJ]).sum() > weights_NJ.sum() / 2
    faces_F3 = shape.part.faces_F3[:, ::-1] if mirrored else shape.part.faces_F3
    return replace(shape.part, vertices_N3=moved_N3, faces_F3=faces_F3)


def _joint_matrices(document: Document, nodes: Nodes, skin: dict[str, Any], limits: Limits) -> npt.NDArray[np.float64]:
    """(K, 4, 4): from the space in which the mesh was bound to the world."""
    worlds = []
    for joint in skin["joints"]:
        nodes.node(joint)
        worlds.append(nodes.worlds[joint])
    worlds_K44 = np.stack(worlds)
    if "inverseBindMatrices" not in skin:
        return worlds_K44
    inverse = accessors.read(document, skin["inverseBindMatrices"], limits)
    if len(inverse) < len(worlds_K44) or inverse.shape[1] != 16:
        raise BadInput(f"a skin has {len(inverse)} bind matrices for {len(worlds_K44)} joints")
    inverse_K44 = inverse[: len(worlds_K44)].astype(np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)
    matrices: npt.NDArray[np.float64] = worlds_K44 @ inverse_K44
    return matrices

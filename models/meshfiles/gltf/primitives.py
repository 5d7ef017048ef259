"""Primitives as parts: triangles of any topology, morphed by their weights, with texture coordinates and colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.colours import linear_from_srgb, srgb_from_linear
from models.meshfiles.gltf import accessors
from models.meshfiles.gltf.document import Document
from models.meshfiles.gltf.extensions import DRACO, SPLATS, draco_message, splats_message
from models.meshfiles.gltf.materials import Materials, Surface
from models.meshfiles.parts import IntArray, Limits, Material, Part
from models.meshfiles.polygons import strip_triangles

POINTS, TRIANGLES, STRIP, FAN = 0, 4, 5, 6


@dataclass(frozen=True, eq=False)
class Primitive:
    """A part in its own space. joints_NJ, weights_NJ: which joints of a skin move each vertex, and how much."""

    part: Part
    joints_NJ: npt.NDArray[np.int64] | None = None
    weights_NJ: npt.NDArray[np.float64] | None = None


class Reader:
    """Reads primitives. kinds: the topologies that it met, to tell why there are no triangles."""

    def __init__(self, document: Document, materials: Materials, limits: Limits) -> None:
        self.kinds: set[int] = set()
        self._document, self._materials, self._limits = document, materials, limits

    def shape(self, primitive: dict[str, Any], weights: Sequence[float]) -> Primitive | None:
        """None for points, lines, and a list without a triangle."""
        mode = primitive.get("mode", TRIANGLES)
        self.kinds.add(mode)
        self._check(primitive)
        if mode not in (TRIANGLES, STRIP, FAN):
            return None
        positions_N3 = self._attribute(primitive, "POSITION", weights)
        if positions_N3 is None:
            return None
        if positions_N3.shape[1] != 3:
            raise BadInput(f"its vertices have {positions_N3.shape[1]} coordinates, not 3")
        faces_F3 = _triangles(self._indices(primitive, len(positions_N3)), mode)
        if not len(faces_F3):
            return None
        surface = self._materials.surface(primitive["material"]) if "material" in primitive else None
        part = self._coloured(Part(positions_N3, faces_F3), primitive, surface, weights)
        return Primitive(part, *self._skinning(primitive))

    def _check(self, primitive: dict[str, Any]) -> None:
        extensions = primitive.get("extensions", {})
        if any(name.startswith(SPLATS) for name in extensions):
            raise BadInput(splats_message())
        if DRACO in extensions:  # allowed beside plain accessors
            positions = self._document.entry("accessors", primitive["attributes"]["POSITION"])
            if "bufferView" not in positions:
                raise BadInput(draco_message())

    def _attribute(
        self, primitive: dict[str, Any], name: str, weights: Sequence[float]
    ) -> npt.NDArray[np.floating[Any]] | None:
        """An attribute with the weighted morph targets added; None where the primitive has none of that name."""
        if name not in primitive["attributes"]:
            return None
        values = accessors.read(self._document, primitive["attributes"][name], self._limits)
        if name.startswith("COLOR") and values.dtype.kind in "iu":
            values = accessors.normalised(values)
        elif values.dtype.kind in "iu":
            values = values.astype(np.float64)
        for weight, target in zip(weights, primitive.get("targets", ()), strict=False):
            if weight and name in target:
                moved = accessors.read(self._document, target[name], self._limits)
                if moved.shape != values.shape:
                    raise BadInput(f"a morph target has {len(moved)} values of {name} for {len(values)} vertices")
                values = values + weight * moved
        return values

    def _indices(self, primitive: dict[str, Any], num_vertices: int) -> IntArray:
        if "indices" not in primitive:
            self._limits.check_list(num_vertices)
            return np.arange(num_vertices)
        indices: IntArray = accessors.read(self._document, primitive["indices"], self._limits)[:, 0].astype(np.int64)
        return indices

    def _coloured(
        self, part: Part, primitive: dict[str, Any], surface: Surface | None, weights: Sequence[float]
    ) -> Part:
        """The part with its material, its texture coordinates and its vertex colours."""
        material = None if surface is None else surface.material
        if surface is not None and surface.placement is not None:
            uv_N2 = self._attribute(primitive, f"TEXCOORD_{surface.placement.channel}", weights)
            if uv_N2 is None:
                self._materials.left_out.append(
                    f"a texture has no coordinates: its part lacks TEXCOORD_{surface.placement.channel}"
                )
                material = replace(surface.material, texture=None, maps={})
            else:
                part = replace(part, uv_N2=surface.placement.of(uv_N2))
        colours = self._attribute(primitive, "COLOR_0", weights)
        if colours is None:
            return replace(part, material=material)
        if not np.isfinite(colours).all():
            raise BadInput("it has vertex colours that are not finite (NaN or infinite)")
        linear = linear_from_srgb(colours) if self._document.written_by_trimesh else colours
        return _with_vertex_colours(part, linear, material)

    def _skinning(
        self, primitive: dict[str, Any]
    ) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.float64] | None]:
        joints: list[npt.NDArray[Any]] = []
        weights: list[npt.NDArray[Any]] = []
        while f"JOINTS_{len(joints)}" in primitive["attributes"]:
            number = len(joints)
            joints.append(accessors.read(self._document, primitive["attributes"][f"JOINTS_{number}"], self._limits))
            read = self._attribute(primitive, f"WEIGHTS_{number}", ())
            weights.append(np.zeros(joints[-1].shape) if read is None else read)
        if not joints:
            return None, None
        return np.concatenate(joints, axis=1).astype(np.int64), np.concatenate(weights, axis=1).astype(np.float64)


def _triangles(indices: IntArray, mode: int) -> IntArray:
    """Faces (F, 3), all turned alike."""
    if mode == TRIANGLES:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if len(indices) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == FAN:
        return np.stack([indices[1:-1], indices[2:], np.full(len(indices) - 2, indices[0])], axis=1)
    return strip_triangles(indices)


def _with_vertex_colours(part: Part, linear: npt.NDArray[Any], material: Material | None) -> Part:
    """Vertex colours multiply the base colour; white ones say nothing where the material says something."""
    if len(linear) != len(part.vertices_N3):
        raise BadInput(f"{len(linear)} vertex colours are there for {len(part.vertices_N3)} vertices")
    linear_N4 = np.ones((len(linear), 4))
    linear_N4[:, : linear.shape[1]] = linear
    stated = material is not None and (material.texture is not None or material.base_colour is not None)
    if stated and (linear_N4 >= 1).all():
        return replace(part, material=material)
    if material is not None and material.texture is None and material.base_colour is not None:
        linear_N4 *= material.base_colour
        material = replace(material, base_colour=None)
    return replace(part, material=material, colours_N4=srgb_from_linear(linear_N4))

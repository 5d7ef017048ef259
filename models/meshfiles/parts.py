"""What is read from a mesh file, whatever its format: triangles with their colours, each where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.colours import linear_from_srgb, srgb_from_linear
from models.meshfiles.textures import Texture

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]
Rgba = tuple[float, float, float, float]

MESH_TYPES = ("glb", "gltf", "obj", "off", "ply", "stl")


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

    def check_triangles(self, count: int) -> None:
        """Raises BadInput for more triangles than may be."""
        if count > self.max_triangles:
            raise BadInput(f"{count} triangles are over the limit of {self.max_triangles} ({self.block}.max_triangles)")

    def check_list(self, count: int) -> None:
        """Raises BadInput for a list, of a file's header, that no mesh within the limit needs."""
        if count > 3 * self.max_triangles:
            raise BadInput(
                f"a list of {count} elements: more than {self.max_triangles} triangles ({self.block}.max_triangles)"
            )


@dataclass(frozen=True, eq=False)
class Material:
    """How a surface is coloured.

    base_colour: linear RGBA, which multiplies the texture; None where the file states none. texture: over the part's
    uv_N2. alpha_cutoff: texels with less alpha are holes. stored, maps: what is kept and not drawn, glTF's names.
    """

    base_colour: Rgba | None = None
    texture: Texture | None = None
    alpha_cutoff: float | None = None
    stored: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, Texture] = field(default_factory=dict)

    @property
    def textures(self) -> tuple[Texture, ...]:
        """All of them."""
        return (*(() if self.texture is None else (self.texture,)), *self.maps.values())


@dataclass(frozen=True, eq=False)
class Part:
    """Triangles with one material.

    uv_N2: texture coordinates, origin in the image's upper left. colours_N4: sRGB, which multiplies a texture.
    """

    vertices_N3: FloatArray
    faces_F3: IntArray
    uv_N2: FloatArray | None = None
    colours_N4: ByteArray | None = None
    material: Material | None = None

    @property
    def texture(self) -> Texture | None:
        """What is drawn over it."""
        return None if self.material is None else self.material.texture

    def vertex_colours(self) -> ByteArray | None:
        """sRGB RGBA (N, 4) of what its vertices look like, textures read off; None where the file states no colour."""
        base = None if self.material is None else self.material.base_colour
        if self.texture is None and self.colours_N4 is None and base is None:
            return None
        linear_N4 = np.ones((len(self.vertices_N3), 4))
        if self.texture is not None and self.uv_N2 is not None:
            linear_N4 *= linear_from_srgb(self.texture.sampled(self.uv_N2) / 255)
        if self.colours_N4 is not None:
            linear_N4 *= linear_from_srgb(self.colours_N4 / 255)
        if base is not None:
            linear_N4 *= base
        return srgb_from_linear(linear_N4)

    def moved(self, matrix_44: npt.NDArray[np.float64]) -> Part:
        """Placed by a matrix; its triangles keep facing outward where the matrix mirrors."""
        if not np.isfinite(matrix_44).all():
            raise BadInput("a node's transform is not finite")
        linear_33 = matrix_44[:3, :3]
        faces_F3 = self.faces_F3[:, ::-1] if np.linalg.det(linear_33) < 0 else self.faces_F3
        vertices_N3 = np.asarray(self.vertices_N3, np.float64) @ linear_33.T + matrix_44[:3, 3]
        return replace(self, vertices_N3=vertices_N3, faces_F3=faces_F3)


@dataclass(frozen=True, eq=False)
class Placed:
    """A part, and a matrix for each place in which it stands: matrices_I44."""

    part: Part
    matrices_I44: npt.NDArray[np.float64] = field(default_factory=lambda: np.eye(4)[None])


@dataclass(frozen=True, eq=False)
class Contents:
    """All parts of a mesh file. left_out: what it has and its reader could not take, in words."""

    placed: tuple[Placed, ...]
    left_out: tuple[str, ...] = ()

    @property
    def num_triangles(self) -> int:
        """Of all places together."""
        return sum(len(placed.part.faces_F3) * len(placed.matrices_I44) for placed in self.placed)

    def parts(self) -> Iterator[Part]:
        """Its parts in the world: one for each place, in the order of the file."""
        for placed in self.placed:
            for matrix_44 in placed.matrices_I44:
                yield placed.part.moved(matrix_44)


def concatenated(parts: list[Part]) -> tuple[FloatArray, IntArray]:
    """Vertices (N, 3) and faces (F, 3) of parts that have triangles, as one mesh."""
    starts = np.cumsum([0, *(len(part.vertices_N3) for part in parts[:-1])])
    faces = [part.faces_F3 + start for part, start in zip(parts, starts, strict=True)]
    return np.concatenate([part.vertices_N3 for part in parts]), np.concatenate(faces)

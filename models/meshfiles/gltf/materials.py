"""Materials: the base colour with its texture, and where on the surface the texture lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.meshfiles.gltf.document import Document
from models.meshfiles.gltf.extensions import OTHER_IMAGES, READ_IMAGES, SPECULAR_GLOSSINESS, TEXTURE_TRANSFORM
from models.meshfiles.parts import Material, Rgba
from models.meshfiles.textures import GL_CODES, KTX2, Texture, Wrap, png_of

WRAPS: dict[int, Wrap] = {code: wrap for wrap, code in GL_CODES.items()}
TRIMESH_GREY = (0.4, 0.4, 0.4, 1.0)
"""What trimesh writes for a material that has a texture and states no colour."""

MAPS = ("normalTexture", "occlusionTexture", "emissiveTexture", "metallicRoughnessTexture")
STORED = ("name", "doubleSided", "emissiveFactor")
STORED_PBR = ("metallicFactor", "roughnessFactor")


@dataclass(frozen=True)
class Placement:
    """Where a texture lies: uv' = matrix_23 (u, v, 1) of the coordinates TEXCOORD_(channel)."""

    channel: int
    matrix_23: tuple[tuple[float, float, float], tuple[float, float, float]]

    def of(self, uv_N2: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Texture coordinates, moved."""
        if self.matrix_23 == _IN_PLACE:
            return uv_N2
        matrix_23 = np.array(self.matrix_23)
        placed_N2: npt.NDArray[np.float64] = np.asarray(uv_N2, np.float64) @ matrix_23[:, :2].T + matrix_23[:, 2]
        return placed_N2


_IN_PLACE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


@dataclass(frozen=True, eq=False)
class Surface:
    """A material, and the placement of its textures where it has any."""

    material: Material
    placement: Placement | None = None


class Materials:
    """The materials of a file, each read once. left_out: textures that could not be had, in words."""

    def __init__(self, document: Document) -> None:
        self.left_out: list[str] = []
        self._document = document
        self._read: dict[int, Surface] = {}
        self._textures: dict[int, Texture | None] = {}

    def surface(self, index: Any) -> Surface:
        """The material of that index."""
        if index not in self._read:
            self._read[index] = self._surface(self._document.entry("materials", index))
        return self._read[index]

    def _surface(self, entry: dict[str, Any]) -> Surface:
        extensions = entry.get("extensions", {})
        pbr = entry.get("pbrMetallicRoughness", {})
        if SPECULAR_GLOSSINESS in extensions:
            return self._specular_glossiness(entry, extensions[SPECULAR_GLOSSINESS])
        base = self._texture(pbr.get("baseColorTexture"))
        infos = {name: (pbr if name.startswith("metallic") else entry).get(name) for name in MAPS}
        placement = _placement(pbr["baseColorTexture"]) if base else None
        maps = {}
        for name, info in infos.items():
            if info and (placement or _placement(info)) == _placement(info) and (texture := self._map(info)):
                maps[name], placement = texture, _placement(info)
        factor = _rgba(pbr.get("baseColorFactor"))
        if base and factor == TRIMESH_GREY and self._document.written_by_trimesh:
            factor = None
        material = Material(factor, base, _cutoff(entry), _stored(entry, pbr), maps)
        return Surface(material, placement)

    def _specular_glossiness(self, entry: dict[str, Any], values: Mapping[str, Any]) -> Surface:
        """The older material, whose metals have their colour in the highlight, as base colour."""
        from PIL import Image
        from trimesh.visual.gloss import specular_to_pbr

        diffuse = self._texture(values.get("diffuseTexture"))
        specular = self._map(values.get("specularGlossinessTexture"))
        found = specular_to_pbr(
            specularFactor=values.get("specularFactor"),
            glossinessFactor=values.get("glossinessFactor"),
            specularGlossinessTexture=None if specular is None else Image.fromarray(specular.rgba()),
            diffuseTexture=None if diffuse is None else Image.fromarray(diffuse.rgba()),
            diffuseFactor=values.get("diffuseFactor"),
        )
        image, factor = found.get("baseColorTexture"), found.get("baseColorFactor")
        wrapped = diffuse or specular
        texture = None if image is None or wrapped is None else Texture(png_of(image), wrapped.wrap)
        material = Material(_rgba(factor), texture, _cutoff(entry), _stored(entry, {}))
        info = values["diffuseTexture" if diffuse else "specularGlossinessTexture"] if texture else None
        return Surface(material, None if info is None else _placement(info))

    def _map(self, info: Any) -> Texture | None:
        """A texture that is kept and not drawn: it may be of a kind that is not read."""
        try:
            return self._texture(info)
        except BadInput:
            return None

    def _texture(self, info: Any) -> Texture | None:
        if info is None:
            return None
        index = info["index"]
        if index not in self._textures:
            self._textures[index] = self._read_texture(index)
        return self._textures[index]

    def _read_texture(self, index: int) -> Texture | None:
        texture = self._document.entry("textures", index)
        source = _source(texture)
        encoded = self._document.image(source)
        if encoded is None:
            self.left_out.append(f"the texture {self._document.entry('images', source)['uri']!r} is not there")
            return None
        if encoded.startswith(KTX2):
            raise _not_read("KTX2", OTHER_IMAGES["KHR_texture_basisu"])
        sampler = self._document.entry("samplers", texture["sampler"]) if "sampler" in texture else {}
        wrap_u, wrap_v = (WRAPS[sampler.get(name, GL_CODES["repeat"])] for name in ("wrapS", "wrapT"))
        return Texture(encoded, (wrap_u, wrap_v))


def _source(texture: dict[str, Any]) -> Any:
    """The image of a texture: the plain one, else one of an extension that is read here."""
    extensions = texture.get("extensions", {})
    if "source" in texture:
        return texture["source"]
    for name in READ_IMAGES:
        if name in extensions:
            return extensions[name]["source"]
    for name, remedy in OTHER_IMAGES.items():
        if name in extensions:
            raise _not_read(name, remedy)
    raise BadInput(f"a texture has no image that is read here ({', '.join(extensions) or 'none at all'})")


def _not_read(kind: str, remedy: str) -> BadInput:
    return BadInput(f"its textures are stored as {kind}, which is not read here: {remedy}")


def _placement(info: dict[str, Any]) -> Placement:
    """KHR_texture_transform scales, turns and moves: which way it turns is told by its README's example."""
    transform = info.get("extensions", {}).get(TEXTURE_TRANSFORM, {})
    channel = transform.get("texCoord", info.get("texCoord", 0))
    scale_u, scale_v = transform.get("scale", (1, 1))
    offset_u, offset_v = transform.get("offset", (0, 0))
    cos, sin = float(np.cos(transform.get("rotation", 0))), float(np.sin(transform.get("rotation", 0)))
    return Placement(
        channel, ((cos * scale_u, sin * scale_v, float(offset_u)), (-sin * scale_u, cos * scale_v, float(offset_v)))
    )


def _rgba(factor: Any) -> Rgba | None:
    if factor is None:
        return None
    red, green, blue, alpha = (float(value) for value in (*factor, 1.0)[:4])
    if not np.isfinite([red, green, blue, alpha]).all():
        raise BadInput("a material's base colour is not finite (NaN or infinite)")
    return red, green, blue, alpha


def _cutoff(entry: dict[str, Any]) -> float | None:
    return float(entry.get("alphaCutoff", 0.5)) if entry.get("alphaMode") == "MASK" else None


def _stored(entry: dict[str, Any], pbr: dict[str, Any]) -> dict[str, Any]:
    stored = {name: entry[name] for name in STORED if name in entry}
    if entry.get("alphaMode") == "BLEND":
        stored["alphaMode"] = "BLEND"
    return stored | {"pbrMetallicRoughness": {name: pbr[name] for name in STORED_PBR if name in pbr}}

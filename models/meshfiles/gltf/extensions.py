"""The gate in front of every glTF: what a file requires is known here, or the file is refused by that name.

What a file merely uses may be passed over, as the format promises, unless it replaces the triangles themselves.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from models.errors import BadInput
from models.meshfiles.gltf.document import MESHOPT, Document, meshopt_message

DRACO = "KHR_draco_mesh_compression"
SPLATS = "KHR_gaussian_splatting"
INSTANCING = "EXT_mesh_gpu_instancing"
TEXTURE_TRANSFORM = "KHR_texture_transform"
VISIBILITY = "KHR_node_visibility"
SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"

READ_IMAGES = ("EXT_texture_webp", "EXT_texture_avif")
"""Images that Pillow decodes."""

OTHER_IMAGES = {
    "KHR_texture_basisu": "store them as PNG with `gltf-transform ktxdecompress IN.glb OUT.glb`",
    "MSFT_texture_dds": "export them as PNG or JPEG",
}
"""Images that are not read, and what to do."""

DECODED = ("KHR_mesh_quantization", INSTANCING, TEXTURE_TRANSFORM, VISIBILITY, SPECULAR_GLOSSINESS, *READ_IMAGES)

WITHOUT_EFFECT = (
    *("KHR_materials_*", "EXT_materials_*", "ADOBE_materials_*", "KHR_lights_*", "EXT_lights_*", "FB_material*"),
    *("KHR_animation*", "KHR_audio*", "KHR_physics_*", "KHR_xmp*", "KHR_XMP*", "KHR_interactivity", "KHR_node_*"),
    *("EXT_mesh_features", "EXT_structural_metadata", "EXT_instance_features", "EXT_mesh_manifold", "MSFT_lod"),
    *("CESIUM_primitive_outline", "CESIUM_RTC", "AGI_*", "VRM*", "GODOT_single_root", "MOZ_*", "OMI_*"),
)
"""They change neither the shape nor the base colour: glass, clear coats, lights, movement, names of things."""


def check(document: Document) -> None:
    """Raises BadInput for a required extension that nobody here reads, saying what to do."""
    for name in document.header.get("extensionsRequired", []):
        if name == DRACO:
            raise BadInput(draco_message())
        if name in MESHOPT:
            raise BadInput(meshopt_message(name))
        if name.startswith(SPLATS):
            raise BadInput(splats_message())
        known = name in DECODED or name in OTHER_IMAGES or any(fnmatchcase(name, known) for known in WITHOUT_EFFECT)
        if not known:
            raise BadInput(f"it requires the extension {name}, which is not known here: export it without")


def draco_message() -> str:
    """What to do with a file that is compressed with Draco."""
    return (
        f"its triangles are compressed with Draco ({DRACO}), which is not read here: "
        "store them plain with `gltf-transform copy IN.glb OUT.glb`, or export without compression"
    )


def splats_message() -> str:
    """What to say of Gaussians where a mesh is asked for."""
    return f"it holds 3D Gaussian splats ({SPLATS}), not a mesh: export the mesh of the object"

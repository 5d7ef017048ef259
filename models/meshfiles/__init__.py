"""Mesh files as triangles with their colours: one reader a format.

contents = read(MeshFile(Path("boot.obj").read_bytes(), "obj"))
contents.num_triangles, [part.vertices_N3 for part in contents.parts()], contents.left_out

The readers are our own because a wrong shape must never pass in silence: what a format allows is decoded, or refused
by its name with what to do. trimesh's readers, which were here before, guess what they do not know.
"""

from __future__ import annotations

import sys

from models.errors import BadInput
from models.meshfiles import gltf, obj, off, ply, stl
from models.meshfiles.parts import MESH_TYPES, Contents, Limits, Material, MeshFile, Part, Placed, concatenated
from models.meshfiles.textures import Texture
from models.stand_ins import stand_in

__all__ = [
    "MESH_TYPES",
    "UNLIMITED",
    "Contents",
    "Limits",
    "Material",
    "MeshFile",
    "Part",
    "Placed",
    "Texture",
    "concatenated",
    "read",
    "read_glb",
    "write_glb",
]

READERS = {"glb": gltf.read, "gltf": gltf.read, "obj": obj.read, "off": off.read, "ply": ply.read, "stl": stl.read}

OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive: unpack it",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"Kaydara FBX": "an FBX file: export it as glb",
    b"BLENDER": "a Blender file: export it as glb",
}
"""What is met under the name of a mesh, by its first bytes."""

UNLIMITED = Limits(sys.maxsize, sys.maxsize)
"""For files of our own."""

write_glb = gltf.write


def read_glb(data: bytes) -> list[Part]:
    """The parts of a GLB, in the world. Raises BadInput."""
    return list(read(MeshFile(data, "glb")).parts())


def read(mesh_file: MeshFile, limits: Limits = UNLIMITED) -> Contents:
    """What the file holds; never without a triangle. Raises BadInput for what is no such mesh, broken or too large."""
    if not mesh_file.data:
        raise BadInput("the file is empty (0 bytes)")
    if what := stand_in(mesh_file.data):
        raise BadInput(f"not a readable {mesh_file.type} mesh: it is {what}")
    for start, what in OTHER_FORMATS.items():
        if mesh_file.data.startswith(start):
            raise BadInput(f"not a readable {mesh_file.type} mesh: it is {what}")
    if mesh_file.type not in READERS:
        raise BadInput(f"meshes of type {mesh_file.type!r} are not read; there are: {', '.join(READERS)}")
    return READERS[mesh_file.type](mesh_file, limits)

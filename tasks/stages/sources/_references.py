"""What obj, mtl and gltf files refer to, read without loading them and without leaving the source's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from models.errors import BadInput

OBJ_HEAD_BYTES = 64 * 1024
"""Where an obj's `mtllib` must stand to be seen; what is not seen here is not read later either."""

MAX_TEXT_BYTES = 64 * 1024 * 1024


@dataclass
class References:
    """files: side files by the name that refers to them. images: those that are textures.

    absent: names of files that are not there.
    """

    files: dict[str, Path] = field(default_factory=dict)
    images: set[Path] = field(default_factory=set)
    absent: list[str] = field(default_factory=list)


def references(path: Path, root: Path) -> References:
    """Side files of an obj, mtl or gltf under the folder `root`. Raises BadInput (broken, or outside), OSError."""
    found = References()
    suffix = path.suffix.lower()
    if suffix == ".gltf":
        for uri, is_image in _gltf_uris(path):
            _add(found, uri, unquote(uri), [path.parent], root, is_image=is_image)
    elif suffix == ".mtl":
        _add_textures(found, path, [path.parent], root)
    elif suffix == ".obj" and (library := _material_library(path)):
        _add(found, library, library, [path.parent], root, is_image=False)
        if material := found.files.get(library):
            _add_textures(found, material, [material.parent, path.parent], root)
    return found


def _material_library(path: Path) -> str | None:
    """The first `mtllib` of an obj's head, the whole rest of its line: names may hold spaces."""
    with path.open("rb") as file:
        head = file.read(OBJ_HEAD_BYTES)
    for line in head.splitlines():
        if line.startswith(b"mtllib"):
            return line[6:].decode("utf-8", "replace").strip()
    return None


def _add_textures(found: References, material: Path, folders: list[Path], root: Path) -> None:
    for line in _text(material).splitlines():
        stripped = line.strip()
        if stripped.lower().startswith("map_kd"):
            _add(found, stripped[6:].strip(), stripped[6:].strip(), folders, root, is_image=True)


def _gltf_uris(path: Path) -> Iterator[tuple[str, bool]]:
    """(uri, whether it is an image) of the buffers and images that lie outside the file."""
    try:
        header = json.loads(_text(path))
        buffers, images = header.get("buffers", []), header.get("images", [])
        uris = [(entry.get("uri"), False) for entry in buffers] + [(entry.get("uri"), True) for entry in images]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BadInput(f"not a readable gltf: {error}") from error
    for uri, is_image in uris:
        if isinstance(uri, str) and not uri.startswith("data:"):
            yield uri, is_image


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise BadInput(f"{path.name} is larger than {MAX_TEXT_BYTES // 2**20} MiB; store it as glb")
    return data.decode("utf-8", "replace")


def _add(found: References, name: str, relative: str, folders: list[Path], root: Path, *, is_image: bool) -> None:
    """Look a name up in the folders in turn."""
    relative = relative.replace("\\", "/")
    for folder in folders:
        candidate = _inside(name, relative, folder, root)
        if candidate.is_file():
            found.files[name] = candidate
            if is_image:
                found.images.add(candidate)
            return
    found.absent.append(name)


def _inside(name: str, relative: str, folder: Path, root: Path) -> Path:
    """The file of that name, which must lie under the source's folder even after following links."""
    outside = BadInput(f"it refers to {name!r}, which is not inside the source's folder")
    if "\0" in relative or urlsplit(relative).scheme or Path(relative).is_absolute():
        raise outside
    path = Path(os.path.normpath(folder / relative))
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # a loop of links
        raise outside from error
    if not (real.is_relative_to(root.resolve()) or real.is_relative_to(folder.resolve())):
        raise outside
    return path

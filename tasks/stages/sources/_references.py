"""What obj, mtl, gltf, glb and ply files refer to, without loading them and without leaving the source's folder."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from models.errors import BadInput
from models.meshfiles.gltf.document import JSON_CHUNK, MAGIC, read_json
from models.meshfiles.mtl import TextureStatement, is_absolute, possible_paths, read_mtl
from models.meshfiles.ply import Header
from models.meshfiles.text import decoded
from models.stand_ins import stand_in

REFERRING = ("obj", "gltf", "mtl")
"""Types that mostly refer to other files."""

SELDOM_REFERRING = ("glb", "ply")
"""Types that mostly hold everything: they need a look only where something lies about that they could refer to."""

SIDE_TYPES = ("avif", "basis", "bin", "bmp", "dds", "gif", "jpeg", "jpg", "ktx2", "png", "tga", "tif", "tiff", "webp")
"""Types of files to which a glb or ply may refer."""

HEAD_BYTES = 64 * 1024
"""Of an obj or ply that are read first: mostly more is not needed."""

MAX_TEXT_BYTES = 64 * 1024 * 1024


@dataclass
class ReferredFiles:
    """files: what is read with the mesh, by the name that refers to it. pictures: all to which it refers, read or not.

    problem: why the mesh cannot be read.
    """

    files: dict[str, Path] = field(default_factory=dict)
    pictures: set[Path] = field(default_factory=set)
    problem: str | None = None

    @property
    def paths(self) -> set[Path]:
        """Files that belong to the mesh, and are no items of their own."""
        return self.pictures | set(self.files.values())


class SideFiles:
    """Finds the side files of meshes under one folder; what its subfolders hold is listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[Path, dict[str, str]] = {}

    def of(self, path: Path) -> ReferredFiles:
        """What a file refers to. Raises OSError where it cannot be read."""
        found = ReferredFiles()
        try:
            match path.suffix.lower():
                case ".gltf":
                    self._add_uris(found, path, _text(path))
                case ".glb":
                    self._add_uris(found, path, _glb_header(path))
                case ".ply":
                    for name in _texture_files(path):
                        self._add(found, name, possible_paths(name), [path.parent], is_picture=True)
                case ".mtl":
                    self._add_textures(found, path, [path.parent], wanted=False)
                case ".obj":
                    self._add_materials(found, path)
        except BadInput as error:
            found.files.clear()
            found.problem = str(error)
        return found

    def _add_uris(self, found: ReferredFiles, path: Path, text: bytes | None) -> None:
        """Buffers and images of a glTF. Where one lies outside, the pictures are still known."""
        if text is None:
            return
        header = read_json(text)
        for kind in ("images", "buffers"):
            entries = header.get(kind, [])
            for entry in entries if isinstance(entries, list) else []:
                uri = entry.get("uri") if isinstance(entry, dict) else None
                if isinstance(uri, str) and not uri.startswith("data:"):
                    self._add(found, uri, possible_paths(unquote(uri)), [path.parent], is_picture=kind == "images")

    def _add_materials(self, found: ReferredFiles, path: Path) -> None:
        for statement in self._library_statements(path):
            for name in self._library_names(statement, path.parent):
                if material := self._add(found, name, possible_paths(name), [path.parent], is_picture=False):
                    self._add_textures(found, material, [material.parent, path.parent], wanted=True)

    def _library_names(self, statement: str, folder: Path) -> list[str]:
        """The rest of an `mtllib` line as one name, which may hold spaces; else those of its words that are files."""
        if self._find(statement, possible_paths(statement), [folder]):
            return [statement]
        return [word for word in statement.split() if self._find(word, possible_paths(word), [folder])] or [statement]

    def _library_statements(self, path: Path) -> Iterator[str]:
        """What stands behind every `mtllib` of an obj's head; of the rest, too, where the head has none.

        Without a library in the folder the rest is not read: a listing must be quick.
        """
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            lines = head.splitlines()[: -1 if len(head) == HEAD_BYTES else None]
            found = [line.strip()[6:] for line in lines if line.strip().startswith(b"mtllib")]
            if not found and len(head) == HEAD_BYTES and any(n.endswith(".mtl") for n in self._listing(path.parent)):
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    found = list(_late_statements(content))
        for statement in found:
            yield decoded(statement.strip())

    def _add_textures(self, found: ReferredFiles, material: Path, folders: list[Path], *, wanted: bool) -> None:
        """Textures of a library; those that are not drawn, or not wanted, count as pictures all the same."""
        for entry in read_mtl(_text(material)).values():
            others = entry.other_textures
            if entry.texture and wanted:
                paths = possible_paths(entry.texture.name)
                self._add(found, entry.texture.stated, paths, folders, is_picture=True)
            elif entry.texture:
                others = [*others, entry.texture]
            for statement in others:
                self._add_picture(found, statement, folders)

    def _add_picture(self, found: ReferredFiles, statement: TextureStatement, folders: list[Path]) -> None:
        try:
            picture = self._find(statement.name, possible_paths(statement.name), folders)
        except BadInput:  # it is never read
            return
        if picture:
            found.pictures.add(picture)

    def _add(
        self, found: ReferredFiles, name: str, paths: Iterable[str], folders: list[Path], *, is_picture: bool
    ) -> Path | None:
        """Look a name up in the folders in turn. Raises BadInput for what lies outside, save for absolute pictures."""
        path = self._find(name, paths, folders)
        if path is None:
            if is_absolute(name.strip("\"'")) and not is_picture:
                raise _outside(name)
            return None
        found.files[name] = path
        if is_picture:
            found.pictures.add(path)
        return path

    def _find(self, name: str, paths: Iterable[str], folders: list[Path]) -> Path | None:
        for relative in paths:
            for folder in folders:
                if (path := self._existing(self._inside(name, relative, folder))) is not None:
                    self._inside(name, os.path.relpath(path, folder), folder)
                    return path
        return None

    def _inside(self, name: str, relative: str, folder: Path) -> Path:
        """The path of that name, which must lie under the source's folder even after following links."""
        if "\0" in relative or is_absolute(relative):
            raise _outside(name)
        path = Path(os.path.normpath(folder / relative))
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:  # a loop of links
            raise _outside(name) from error
        if not (real.is_relative_to(self._root.resolve()) or real.is_relative_to(folder.resolve())):
            raise _outside(name)
        return path

    def _existing(self, path: Path) -> Path | None:
        """The file, or the one that is named so but for the case of its letters and of its folders'."""
        if path.is_file():
            return path
        actual = Path(path.anchor)
        for part in path.parts[1:] if path.is_absolute() else path.parts:
            exact = actual / part
            if not exact.exists():
                other = self._listing(actual).get(part.lower())
                if other is None:
                    return None
                exact = actual / other
            actual = exact
        return actual if actual.is_file() else None

    def _listing(self, folder: Path) -> dict[str, str]:
        """Names in a folder by their small letters."""
        if folder not in self._listings:
            try:
                self._listings[folder] = {
                    path.name.lower(): path.name for path in sorted(folder.iterdir(), reverse=True)
                }
            except OSError:
                self._listings[folder] = {}
        return self._listings[folder]


def _outside(name: str) -> BadInput:
    return BadInput(f"it refers to {name!r}, which is not inside the source's folder; lay it beside the mesh")


def _late_statements(content: mmap.mmap) -> Iterator[bytes]:
    position = content.find(b"mtllib")
    while position >= 0:
        line_start = content.rfind(b"\n", 0, position) + 1
        line_end = content.find(b"\n", position)
        if not content[line_start:position].strip():
            yield content[position + 6 : line_end if line_end >= 0 else len(content)]
        position = content.find(b"mtllib", position + 6)


def _glb_header(path: Path) -> bytes | None:
    """The JSON of a GLB that refers to anything; None for one that does not, or that is none."""
    with path.open("rb") as file:
        head = file.read(20)
        if len(head) < 20 or not head.startswith(MAGIC):
            return None
        length, kind = struct.unpack_from("<II", head, 12)
        if kind != JSON_CHUNK or length > MAX_TEXT_BYTES:
            return None
        text = file.read(length)
    return text if b'"uri"' in text else None


def _texture_files(path: Path) -> list[str]:
    """Names of a ply's `comment TextureFile`; none of what is no ply."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    try:
        return Header.parse(head).textures if b"extureFile" in head else []
    except BadInput:
        return []


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise BadInput(f"{path.name} is larger than {MAX_TEXT_BYTES // 2**20} MiB; store it as glb")
    if found := stand_in(data):
        raise BadInput(f"{path.name} is {found}")
    return data

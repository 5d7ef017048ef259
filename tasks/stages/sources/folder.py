"""Meshes and photos of the inbox, or of a folder in it: `{source: folder, path: scans, exclude: [masks/*]}`.

    shoes/boot.obj boot.mtl leather.png     one mesh; its material and texture belong to it
    shoes/clog_front.jpg clog_left.jpg      one photo set with two views
    shoes/sandal/front.jpg left.jpg         the same: a folder of views is one photo set
    mugs/blue.png                           one photo, seen from the front

A `manifest.json` in the folder, a list of {file, licence, up, class, what, split}, is used where the params do not say.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from models.normalise import MESH_TYPES, MeshFile, UpAxis
from models.views import IMAGE_TYPES, split_view
from tasks.collections.files import readable
from tasks.stages.sources import Found, Ignored, Kind, Loaded, SourceParams, read_expected, summary
from tasks.stages.sources._manifest import MANIFEST, ManifestEntry, read_manifest
from tasks.stages.sources._patterns import matcher
from tasks.stages.sources._references import REFERRING, SELDOM_REFERRING, SIDE_TYPES, ReferredFiles, SideFiles

REMEDIES = {
    "export as .glb": "3dm 3ds 3mf abc blend c4d dae fbx iges igs ma max mb step stp usd usda usdc usdz wrl x3d",
    "save as .png or .jpg": "arw cr2 cr3 dng exr gif hdr jp2 jxl nef psd svg tga",
    "unpack it": "7z bz2 gz rar tar tgz xz zip",
    "take photos out of it": "avi m4v mkv mov mp4 webm",
}
"""What to do with files of well-known types that are not read."""
REMEDY = {suffix: remedy for remedy, suffixes in REMEDIES.items() for suffix in suffixes.split()}
REMEDY_FOR_NOTHING = (
    "Put meshes or photos there; for generated objects make a workspace with `lostwax init DIR --generated shoes`"
)

Digest = Callable[[Path], str]


class Params(SourceParams):
    source: Literal["folder"] = "folder"
    path: str = "."
    """A folder inside the inbox (DVC watches the inbox, so nothing outside it may be read); links are followed."""
    recursive: bool = True
    """Whether folders inside it are read as well. Hidden files and folders never are."""
    include: tuple[str, ...] = ()
    """Patterns of the files to take; none takes all. `*.glb` matches names, `shoes/*` paths (`*` crosses slashes)."""
    exclude: tuple[str, ...] = ()
    """Patterns of the files to leave, after `include`."""
    up_axis: UpAxis | None = None
    """The axis that points up in the meshes of which neither `up` nor the manifest says it; None: ingest.up_axis."""
    up: Mapping[str, UpAxis] = Field(default_factory=dict)
    """Up axes by pattern, the first match wins: {"shoes/gso_*": z}."""
    class_name: str | None = None
    """The class of all its items; None takes the manifest's, else the name of the first folder."""
    group: str | None = None
    """A regular expression with one group, searched in the label: what it captures is the split's group. Where it finds
    nothing, files whose paths differ in suffix and view alone are a group; so is a folder of views with a mesh."""
    licence: str | None = None
    """The licence of all its items; None takes the manifest's."""

    @field_validator("group")
    @classmethod
    def _has_one_group(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        if groups != 1:
            raise ValueError(f"needs exactly one (group), has {groups}")
        return value


def find(params: Params, inbox: Path, digest: Digest) -> Iterator[Found | Ignored]:
    """Its meshes, photos and photo sets in the order of their paths.

    Raises ValueError for a missing folder, and for one in which there are none.
    """
    root = Path(os.path.normpath(inbox / params.path))
    if not root.is_relative_to(os.path.normpath(inbox)):
        raise ValueError(
            f"ingest.sources: folder, path: {params.path}: lies outside the inbox {inbox}; "
            "link it there, or set ingest.inbox"
        )
    if not root.is_dir():
        where = "ingest.inbox" if params.path == "." else f"ingest.sources: folder, path: {params.path}"
        raise ValueError(
            f"no folder at {root} ({where}): is it spelt right, and its disk mounted? {REMEDY_FOR_NOTHING}"
        )
    ignored: list[Ignored] = []
    found_any = False
    for entry in _Listing(params, root, digest).items():
        yield entry
        if isinstance(entry, Ignored):
            ignored.append(entry)
        else:
            found_any = True
    if not found_any:
        there = f"; there are {summary(ignored)}" if ignored else ""
        patterns = " that include and exclude leave" if params.include or params.exclude else ""
        raise ValueError(f"no mesh and no photo{patterns} in {root}{there}. {REMEDY_FOR_NOTHING}")


def load(payload: Any, max_bytes: int) -> Loaded:
    """The files of one item. Raises BadInput when they are too large, gone, or no longer what was listed."""

    def read(entry: list[str]) -> bytes:
        return read_expected(Path(entry[0]), entry[1], max_bytes)

    if "photos" in payload:
        return Loaded(photos={view: read(entry) for view, entry in payload["photos"].items()})
    side_files = {name: read(entry) for name, entry in payload["side_files"].items()}
    return Loaded(MeshFile(read(payload["mesh"]), payload["type"], side_files))


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the listing: its path under the folder, with forward slashes, and its type in small letters."""

    relative: str
    type: str

    @property
    def stem(self) -> str:
        """The path without its suffix."""
        return self.relative[: -len(self.type) - 1] if self.type else self.relative

    @property
    def folder(self) -> str:
        """The path of its folder; "" is the source's own."""
        return self.relative.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class _Photos:
    """The photos of one item by view. path: of the object, without suffix and view; "" for the views of the root."""

    path: str
    views: dict[str, _File]

    @property
    def files(self) -> list[_File]:
        """Its files by the names of their views."""
        return [self.views[view] for view in sorted(self.views)]


class _Listing:
    """One pass over a folder."""

    def __init__(self, params: Params, root: Path, digest: Digest) -> None:
        self._params, self._root, self._digest = params, root, digest
        self._include, self._exclude = matcher(params.include), matcher(params.exclude)
        self._group = re.compile(params.group) if params.group else None
        self._up = [(matcher((pattern,)), axis) for pattern, axis in params.up.items()]
        self._manifest = read_manifest(root)
        self._references: dict[str, ReferredFiles] = {}
        self._objects: frozenset[str] = frozenset()

    def items(self) -> Iterator[Found | Ignored]:
        files, ignored = _walk(self._root, self._params.recursive)
        yield from ignored
        side_files = self._read_references(files)
        files = [file for file in files if file.type in MESH_TYPES or file.relative not in side_files]
        files = [file for file in files if self._wanted(file.relative) and file.relative != MANIFEST]
        photos, repeated = _photos([file for file in files if file.type in IMAGE_TYPES])
        self._objects = _folders_of_one_object(files, photos.values())
        for file in files:
            if file.type in MESH_TYPES:
                yield self._mesh(file)
            elif file.type not in IMAGE_TYPES:
                yield Ignored(file.relative, _what(file))
            elif file in repeated:
                yield Ignored(file.relative, "further photo of one view")
            elif file in photos:
                yield self._photo(photos[file])

    def _wanted(self, relative: str) -> bool:
        return not self._exclude(relative) and (not self._params.include or self._include(relative))

    def _read_references(self, files: list[_File]) -> set[str]:
        """Read what meshes and materials refer to; the paths under the folder that so are no items themselves."""
        side_files: set[str] = set()
        finder = SideFiles(self._root)
        types = REFERRING + (SELDOM_REFERRING if any(file.type in SIDE_TYPES for file in files) else ())
        for file in files:
            if file.type not in types:
                continue
            try:
                found = finder.of(self._root / file.relative)
            except OSError as error:
                found = ReferredFiles(problem=f"it cannot be read: {error.strerror}")
            self._references[file.relative] = found
            side_files.update(os.path.relpath(path, self._root) for path in found.paths)
        return side_files

    def _mesh(self, file: _File) -> Found:
        path = file.folder or self._root.name if file.folder in self._objects else file.stem
        found = self._references.get(file.relative, ReferredFiles())
        try:
            mesh = self._entry(file.relative)
            side_files = {name: self._path_entry(path) for name, path in sorted(found.files.items())}
        except OSError as error:
            return self._found(file, file.stem, path, "mesh", _unreadable(file), None, _unreadable_because(error))
        inputs = [("mesh", mesh[1]), *((f"side/{readable(name)}", entry[1]) for name, entry in side_files.items())]
        payload = {"mesh": mesh, "type": file.type, "side_files": side_files}
        return self._found(file, file.stem, path, "mesh", inputs, payload, found.problem)

    def _photo(self, photos: _Photos) -> Found:
        """One item of the photos by view."""
        first, path = photos.files[0], photos.path or self._root.name
        single = len(photos.views) == 1
        label = first.stem if single else path
        kind: Kind = "photo" if single else "photo_set"
        try:
            entries = {view: self._entry(file.relative) for view, file in sorted(photos.views.items())}
        except OSError as error:
            return self._found(first, label, path, kind, _unreadable(first), None, _unreadable_because(error))
        inputs = [(f"photo/{view}", entry[1]) for view, entry in entries.items()]
        return self._found(first, label, path, kind, inputs, {"photos": entries}, None)

    def _entry(self, relative: str) -> list[str]:
        return self._path_entry(self._root / relative)

    def _path_entry(self, path: Path) -> list[str]:
        """[path, sha256] of a file. Raises OSError."""
        return [str(path), self._digest(path)]

    def _found(
        self,
        file: _File,
        label: str,
        path: str,
        kind: Kind,
        inputs: Iterable[tuple[str, str]],
        payload: Any,
        problem: str | None,
    ) -> Found:
        known = self._manifest.get(file.relative, ManifestEntry())
        first_folder, slash, _ = label.partition("/")
        return Found(
            inputs=tuple(inputs),
            label=readable(label),
            class_name=self._params.class_name or known.class_name or (readable(first_folder) if slash else "object"),
            source="folder",
            kind=kind,
            payload=payload,
            group=readable(self._group_of(label) or path),
            split=known.split,
            labels={"what": known.what} if known.what else {},
            licence=self._params.licence or known.licence or "unstated",
            up_axis=self._up_axis(file.relative) or known.up or self._params.up_axis,
            problem=problem,
        )

    def _group_of(self, label: str) -> str | None:
        """What `group` captures in the label."""
        match = self._group.search(label) if self._group else None
        return match.group(1) if match else None

    def _up_axis(self, relative: str) -> UpAxis | None:
        """What the `up` patterns say."""
        for fits, axis in self._up:
            if fits(relative):
                return axis
        return None


def _walk(root: Path, recursive: bool) -> tuple[list[_File], list[Ignored]]:
    """Files under the folder sorted by path, and the folders that cannot be read. Each folder is entered once."""
    files: list[_File] = []
    ignored: list[Ignored] = []
    pending, entered = [("", str(root))] if root.is_dir() else [], set()
    while pending:
        prefix, folder = pending.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        if recursive:
                            pending.append((f"{prefix}{entry.name}/", entry.path))
                    elif entry.is_file() or not Path(entry.path).exists():
                        files.append(_file(prefix, entry.name))
        except OSError as error:
            ignored.append(Ignored(prefix.rstrip("/"), f"folder that cannot be read ({error.strerror})"))
    return sorted(files, key=lambda file: file.relative), ignored


def _file(prefix: str, name: str) -> _File:
    stem, dot, suffix = name.rpartition(".")
    return _File(prefix + name, suffix.lower() if stem and dot else "")


def _photos(files: list[_File]) -> tuple[dict[_File, _Photos], set[_File]]:
    """The photos of each item under its first file, and the files that repeat a view of their set."""
    sets: dict[tuple[str, str], _Photos] = {}
    found: dict[_File, _Photos] = {}
    repeated: set[_File] = set()
    for file in files:
        name, view = split_view(file.stem.rpartition("/")[2])
        if view is None:
            found[file] = _Photos(file.stem, {"front": file})
            continue
        path = "/".join(part for part in (file.folder, name) if part)
        photos = sets.setdefault((file.folder, name), _Photos(path, {}))
        if view in photos.views:
            repeated.add(file)
            continue
        if not photos.views:
            found[file] = photos
        photos.views[view] = file
    return found, repeated


def _folders_of_one_object(files: list[_File], photos: Iterable[_Photos]) -> frozenset[str]:
    """Folders whose photos are views of one object, beside a single mesh or none."""
    views = {some.path for some in photos if len(some.views) > 1 and some.path == some.files[0].folder}
    meshes = Counter(stem.rpartition("/")[0] for stem in {file.stem for file in files if file.type in MESH_TYPES})
    return frozenset(folder for folder in views if meshes[folder] <= 1)


def _what(file: _File) -> str:
    """A file that is neither mesh nor photo, and what to do with its like."""
    if not file.type:
        return "without a suffix"
    suffix = readable(file.type)[:20]
    return f".{suffix} ({REMEDY[suffix]})" if suffix in REMEDY else f".{suffix}"


def _unreadable(file: _File) -> list[tuple[str, str]]:
    """Stands for the inputs of an item whose bytes cannot be had: it is known by its path."""
    return [("unreadable", hashlib.sha256(os.fsencode(file.relative)).hexdigest())]


def _unreadable_because(error: OSError) -> str:
    return f"{readable(str(error.filename))} cannot be read: {error.strerror}"

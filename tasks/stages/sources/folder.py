"""Meshes and photos of the inbox, or of a folder in it: `{source: folder, path: scans, exclude: [masks/*]}`.

    shoes/boot.obj boot.mtl leather.png     one mesh; its material and texture belong to it
    shoes/clog_front.jpg clog_left.jpg      one photo set with two views
    mugs/blue.png                           one photo, seen from the front

A `manifest.json` in the folder, a list of {file, licence, up, class, what}, is used where the params do not say.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from models.cameras import NAMED_AZIMUTHS_DEG
from models.errors import BadInput
from models.normalise import MESH_TYPES, MeshFile, UpAxis
from tasks.stages.sources import Found, Ignored, Kind, Loaded, SourceParams, read_expected
from tasks.stages.sources._references import References, references

PHOTO_TYPES = ("png", "jpg", "jpeg", "webp")
WITH_REFERENCES = ("obj", "gltf", "mtl")
MANIFEST = "manifest.json"

_VIEW_SUFFIX = re.compile(rf"(.+)_({'|'.join(NAMED_AZIMUTHS_DEG)})", re.IGNORECASE)

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
    up_axis: UpAxis = "y"
    """The axis that points up in the meshes of which neither `up` nor the manifest says it."""
    up: Mapping[str, UpAxis] = Field(default_factory=dict)
    """Up axes by pattern, the first match wins: {"shoes/gso_*": z}."""
    class_name: str | None = None
    """The class of all its items; None takes the manifest's, else the name of the first folder."""
    group: str | None = None
    """A regular expression with one group, searched in the label: what it captures is the split's group."""
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
    """Its meshes, photos and photo sets in the order of their paths. Raises ValueError for a missing folder."""
    root = Path(os.path.normpath(inbox / params.path))
    if not root.is_relative_to(os.path.normpath(inbox)):
        raise ValueError(
            f"ingest.sources: folder, path: {params.path}: lies outside the inbox {inbox}; "
            "link it there, or set ingest.inbox"
        )
    if params.path != "." and not root.is_dir():
        raise ValueError(f"no folder at {root} (ingest.sources: folder, path: {params.path})")
    yield from _Listing(params, root, digest).items()


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


class _Listing:
    """One pass over a folder."""

    def __init__(self, params: Params, root: Path, digest: Digest) -> None:
        self._params, self._root, self._digest = params, root, digest
        self._include, self._exclude = _matcher(params.include), _matcher(params.exclude)
        self._group = re.compile(params.group) if params.group else None
        self._up = [(_matcher((pattern,)), axis) for pattern, axis in params.up.items()]
        self._manifest = _read_manifest(root / MANIFEST)
        self._references: dict[str, References] = {}
        self._problems: dict[str, str] = {}

    def items(self) -> Iterator[Found | Ignored]:
        files, ignored = _walk(self._root, self._params.recursive)
        yield from ignored
        side_files = self._read_references(files)
        files = [file for file in files if file.type in MESH_TYPES or file.relative not in side_files]
        files = [file for file in files if self._wanted(file.relative) and file.relative != MANIFEST]
        photos = _photos([file for file in files if file.type in PHOTO_TYPES])
        for file in files:
            if file.type in MESH_TYPES:
                yield self._mesh(file)
            elif file.type not in PHOTO_TYPES:
                yield Ignored(file.relative, f"not a mesh or photo: .{file.type}" if file.type else "no suffix")
            elif file.relative not in photos:
                yield Ignored(file.relative, "a second photo of the same view")
            elif views := photos[file.relative]:
                yield self._photo(views)

    def _wanted(self, relative: str) -> bool:
        return not self._exclude(relative) and (not self._params.include or self._include(relative))

    def _read_references(self, files: list[_File]) -> set[str]:
        """Read what meshes and materials refer to; the paths under the folder that so are no items themselves."""
        side_files: set[str] = set()
        for file in files:
            if file.type not in WITH_REFERENCES:
                continue
            try:
                found = references(self._root / file.relative, self._root)
            except BadInput as error:
                self._problems[file.relative] = str(error)
            except OSError as error:
                self._problems[file.relative] = f"it cannot be read: {error.strerror}"
            else:
                self._references[file.relative] = found
                side_files.update(os.path.relpath(path, self._root) for path in found.files.values())
        return side_files

    def _mesh(self, file: _File) -> Found:
        problem = self._problems.get(file.relative)
        found = self._references.get(file.relative, References())
        try:
            mesh = self._entry(file.relative)
            side_files = {name: self._path_entry(path) for name, path in sorted(found.files.items())}
        except OSError as error:
            return self._found(file, file.stem, "mesh", _unreadable(file), None, _unreadable_because(error))
        inputs = [("mesh", mesh[1]), *((f"side/{name}", entry[1]) for name, entry in side_files.items())]
        payload = {"mesh": mesh, "type": file.type, "side_files": side_files}
        return self._found(file, file.stem, "mesh", inputs, payload, problem)

    def _photo(self, views: Mapping[str, _File]) -> Found:
        """One item of the photos by view."""
        first = next(iter(views.values()))
        single = len(views) == 1
        label = first.stem if single else _split_view(first.stem)[0]
        kind: Kind = "photo" if single else "photo_set"
        try:
            photos = {view: self._entry(file.relative) for view, file in sorted(views.items())}
        except OSError as error:
            return self._found(first, label, kind, _unreadable(first), None, _unreadable_because(error))
        inputs = [(f"photo/{view}", entry[1]) for view, entry in photos.items()]
        return self._found(first, label, kind, inputs, {"photos": photos}, None)

    def _entry(self, relative: str) -> list[str]:
        return self._path_entry(self._root / relative)

    def _path_entry(self, path: Path) -> list[str]:
        """[path, sha256] of a file. Raises OSError."""
        return [str(path), self._digest(path)]

    def _found(
        self,
        file: _File,
        label: str,
        kind: Kind,
        inputs: Iterable[tuple[str, str]],
        payload: Any,
        problem: str | None,
    ) -> Found:
        known = self._manifest.get(file.relative, ManifestEntry())
        first_folder, slash, _ = file.relative.partition("/")
        group = self._group.search(label) if self._group else None
        return Found(
            inputs=tuple(inputs),
            label=label,
            class_name=self._params.class_name or known.class_name or (first_folder if slash else "object"),
            source="folder",
            kind=kind,
            payload=payload,
            group=group.group(1) if group else None,
            labels={"what": known.what} if known.what else {},
            licence=self._params.licence or known.licence or "unstated",
            up_axis=self._up_axis(file.relative) or known.up or self._params.up_axis,
            problem=problem,
        )

    def _up_axis(self, relative: str) -> UpAxis | None:
        """What the `up` patterns say."""
        for fits, axis in self._up:
            if fits(relative):
                return axis
        return None


class ManifestEntry(BaseModel):
    """What a manifest may say of a file; its other keys are not ours."""

    licence: str | None = None
    up: UpAxis | None = None
    class_name: str | None = Field(None, alias="class")
    what: str | None = None

    @field_validator("up", mode="before")
    @classmethod
    def _small_letter(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value


def _read_manifest(path: Path) -> dict[str, ManifestEntry]:
    """Entries by file. Raises ValueError for a manifest that is no such list."""
    if not path.is_file():
        return {}
    try:
        return {entry["file"]: ManifestEntry.model_validate(entry) for entry in json.loads(path.read_bytes())}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a list of {{file, licence, up, class, what}}; mend it, or rename it if it is something else"
            f" ({type(error).__name__}: {error})"
        ) from error


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
            ignored.append(Ignored(prefix.rstrip("/"), f"the folder cannot be read: {error.strerror}"))
    return sorted(files, key=lambda file: file.relative), ignored


def _file(prefix: str, name: str) -> _File:
    stem, dot, suffix = name.rpartition(".")
    return _File(prefix + name, suffix.lower() if stem and dot else "")


def _photos(files: list[_File]) -> dict[str, dict[str, _File]]:
    """Photos by view, under the path of each item's first file; the other files of a set have none.

    A file that is absent from the result repeats a view of its set.
    """
    sets: dict[str, dict[str, _File]] = {}
    result: dict[str, dict[str, _File]] = {}
    for file in files:
        name, view = _split_view(file.stem)
        if view is None:
            result[file.relative] = {"front": file}
            continue
        views = sets.setdefault(name, {})
        if view not in views:
            result[file.relative] = {} if views else views
            views[view] = file
    return result


def _split_view(stem: str) -> tuple[str, str | None]:
    """The name of a photo's set and its view, where the name ends in one."""
    match = _VIEW_SUFFIX.fullmatch(stem)
    return (match.group(1), match.group(2).lower()) if match else (stem, None)


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a path fits one of the patterns: those without a slash are held against the name alone."""
    of_path = [pattern for pattern in patterns if "/" in pattern]
    of_name = [pattern for pattern in patterns if "/" not in pattern]
    path_fits, name_fits = _any_of(of_path), _any_of(of_name)
    return lambda relative: bool(path_fits(relative) or name_fits(relative.rpartition("/")[2]))


def _any_of(patterns: list[str]) -> Callable[[str], object]:
    if not patterns:
        return lambda _: None
    return re.compile("|".join(map(fnmatch.translate, patterns))).match


def _unreadable(file: _File) -> list[tuple[str, str]]:
    """Stands for the inputs of an item whose bytes cannot be had: it is known by its path."""
    return [("unreadable", hashlib.sha256(file.relative.encode()).hexdigest())]


def _unreadable_because(error: OSError) -> str:
    return f"{error.filename} cannot be read: {error.strerror}"

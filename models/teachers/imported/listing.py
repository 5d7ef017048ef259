"""Which files of a folder belong to which item.

A piece of finished work is known by its path: `shoes/boot.glb` and `shoes/boot.ply` are the piece `shoes/boot`. An item
takes the piece whose path agrees with its label for longest from the end; a piece goes to the item that it agrees with
for longest. Where two do equally, nobody gets it.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from models.errors import BadInput

log = logging.getLogger(__name__)

MESH_TYPES = ("glb", "obj", "ply", "stl")
"""Types of meshes that are taken: all but obj say how long they are."""


class Layout(StrEnum):
    """How a folder is laid out."""

    AUTO = "auto"
    FILES = "files"
    FRESNEL = "fresnel"
    SHOES = "shoes"


FILES_TYPES = (*MESH_TYPES, "npz")
FRESNEL_NAMES = frozenset(
    [f"mesh.{suffix}" for suffix in MESH_TYPES]
    + [f"{name}.{suffix}" for name in ("coords", "slat") for suffix in ("pt", "npy", "npz")]
    + ["gaussians.ply", "latents.npz", "metadata.json"]
)


@dataclass(slots=True)
class Piece:
    """The files of one result, by their paths under the folder. refused: why it must not be read."""

    files: list[str] = field(default_factory=list)
    refused: str | None = None


class Listing:
    """A folder, listed once. It is not opened."""

    def __init__(self, folder: Path, layout: Layout, labels: Mapping[str, str], max_bytes: int) -> None:
        """labels: of all items, by id. Raises ValueError for a folder that is not there, or holds nothing."""
        if not folder.is_dir():
            raise ValueError(f"there is no folder at {folder} (teachers.imported.folder)")
        self._folder, self._labels, self._max_bytes = folder, labels, max_bytes
        found = list(_walk(folder))
        self.layout = _guess(path for path, _ in found) if layout is Layout.AUTO else layout
        self._pieces = _pieces(found, self.layout)
        if not self._pieces:
            raise ValueError(
                f"{folder} holds nothing of the layout {self.layout} (teachers.imported.layout: {layout}); "
                f"there are: {', '.join(list(Layout)[1:])}"
            )
        log.info("imported: %d results in %s, layout %s", len(self._pieces), folder, self.layout)
        self._by_label = _Matching(self._pieces, labels.items())
        left = [piece for piece in self._pieces if not self._by_label.claimants(piece)]
        self._by_alias = _Matching(left, _aliases(labels))

    def files_of(self, item_id: str) -> Sequence[Path]:
        """Paths of the item's files; none where nothing fits it.

        Raises BadInput where several pieces fit, where one fits several items, or where it must not be read.
        """
        if item_id not in self._labels:
            return ()
        name = self._by_label.piece_of(item_id) or self._by_alias.piece_of(item_id)
        if name is None:
            return ()
        self._check_alone(name)
        piece = self._pieces[name]
        if piece.refused is not None:
            raise BadInput(piece.refused)
        paths = [self._folder / file for file in sorted(piece.files)]
        for path in paths:
            if (size := path.stat().st_size) > self._max_bytes:
                raise BadInput(
                    f"{path.name} has {size / 1e6:.0f} MB, the limit is {self._max_bytes / 1e6:.0f} "
                    "(teachers.imported.max_file_mb)"
                )
        return paths

    def _check_alone(self, piece: str) -> None:
        ids = self._by_label.claimants(piece) or self._by_alias.claimants(piece)
        if len(set(ids)) > 1:
            labels = sorted({self._labels[item_id] for item_id in ids})
            who = f"{_some(labels)} alike" if len(labels) > 1 else f"{len(ids)} items, all labelled {labels[0]},"
            raise BadInput(f"{piece} fits {who}: put each result into a folder as its item's, or give it another name")


def _pieces(found: Iterable[tuple[str, str | None]], layout: Layout) -> dict[str, Piece]:
    pieces: defaultdict[str, Piece] = defaultdict(Piece)
    for path, refused in found:
        folder, _, file_name = path.rpartition("/")
        stem, _, suffix = path.rpartition(".")
        if refused is not None and "." not in file_name:
            name = path
        elif layout is Layout.FRESNEL:
            name = folder if file_name in FRESNEL_NAMES else ""
        else:
            types = FILES_TYPES if layout is Layout.FILES else ("pt",)
            name = stem if suffix.lower() in types else ""
        if name:
            pieces[name].files.append(path)
            pieces[name].refused = pieces[name].refused or refused
    return dict(pieces)


def _guess(paths: Iterable[str]) -> Layout:
    """fresnel where a folder holds gaussians.ply, coords.pt or slat.pt, shoes where another .pt lies, else files."""
    guess = Layout.FILES
    for path in paths:
        folder, _, name = path.rpartition("/")
        if folder and name in ("gaussians.ply", "coords.pt", "slat.pt"):
            return Layout.FRESNEL
        if name.endswith(".pt"):
            guess = Layout.SHOES
    return guess


class _Matching:
    """Pieces and items that agree with each other for longest from the end of their paths."""

    def __init__(self, pieces: Iterable[str], names: Iterable[tuple[str, str]]) -> None:
        """names: (item id, what it is called); an item may have several."""
        self._names: defaultdict[str, list[str]] = defaultdict(list)
        self._owners: defaultdict[str, list[str]] = defaultdict(list)
        self._pieces: defaultdict[str, list[str]] = defaultdict(list)
        for item_id, name in names:
            self._names[item_id].append(name)
            for end in _ends(name):
                self._owners[end].append(item_id)
        for piece in pieces:
            if end := self._claimed(piece):
                self._pieces[end].append(piece)

    def claimants(self, piece: str) -> list[str]:
        """Ids of the items that agree with a piece for longest."""
        return self._owners.get(self._claimed(piece), [])

    def piece_of(self, item_id: str) -> str | None:
        """The item's piece, whoever else claims it. Raises BadInput where several fit it equally."""
        for name in self._names.get(item_id, ()):
            fitting = next((self._pieces[end] for end in _ends(name) if end in self._pieces), [])
            if len(fitting) > 1:
                raise BadInput(
                    f"{_some(sorted(fitting))} fit {name} equally well: leave one, or name its folder as the item's"
                )
            if fitting:
                return fitting[0]
        return None

    def _claimed(self, piece: str) -> str:
        """The longest end of a piece's path that an item has too; empty where there is none."""
        return next((end for end in _ends(piece) if end in self._owners), "")


def _aliases(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Other names of items: that of their front photo, and that of a folder which holds no other item."""
    folders = Counter(label.rpartition("/")[0] for label in labels.values())
    for item_id, label in labels.items():
        yield item_id, f"{label}_front"
        folder = label.rpartition("/")[0]
        if folder and folders[folder] == 1:
            yield item_id, folder


def _ends(path: str) -> Iterator[str]:
    """a/b/c, b/c, c."""
    while path:
        yield path
        path = path.partition("/")[2]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _walk(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Paths of regular files under a folder, hidden ones aside, and of what must not be entered, with the reason.

    Links are followed inside the folder only, and each folder is entered once.
    """
    root = os.path.realpath(folder)
    pending, entered = [("", root)], {root}
    while pending:
        prefix, place = pending.pop()
        try:
            with os.scandir(place) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            yield prefix.rstrip("/"), f"the folder {prefix} cannot be read: {error.strerror}"
            continue
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and (reason := _refusal(entry, root)):
                yield path, f"{path} {reason}"
            elif entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in entered:
                    entered.add(real)
                    pending.append((f"{path}/", real))
            elif entry.is_file():
                yield path, None


def _refusal(link: os.DirEntry[str], root: str) -> str | None:
    """Why a link must not be followed."""
    target = os.path.realpath(link.path)
    if not target.startswith(f"{root}{os.sep}"):
        return "is a link that leads out of the folder: put the file itself there"
    return None if Path(target).exists() else "is a link to nothing"

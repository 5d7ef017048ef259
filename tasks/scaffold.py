"""What `lostwax init` lays down, and whose the files are that lie there already: nobody's own work is overwritten.

A dvc.yaml or versions.yaml of ours begins with a line that holds the digest of what it was made as. While it fits,
nobody has edited the file, and it follows the package. A dvc.yaml with stages and deps of the user's own follows it
too, and keeps them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from tasks.dvc_yaml import merged, without_additions
from tasks.engine.outcome import some_of
from tasks.params import load_params
from tasks.workspace import Workspace, template
from tasks.yaml_file import parse_value, read_yaml

OURS = ("versions.yaml", "dvc.yaml")
"""Files that follow the package; params.yaml is the user's from the start."""
MARK = "# Written by `lostwax init`; what you edit below stays yours. Made as sha256 {}\n"
MARKED = re.compile(rb"# Written by `lostwax init`[^\n]* sha256 ([0-9a-f]{64})\n")
BEFORE_MARKS = {
    "dvc.yaml": ("0b1303b3d0c6f0e5", "1367f9a420418eff", "7a3da299d5fb83e0", "e0929d9fc1bb761c", "e48c2d96b9d4da78"),
    "versions.yaml": (
        *("5fdac65e21737de1", "6e8af72a7f96ee92", "839bf351524b4292", "e0f87312a9e65c36", "ea670edbf9b2b1a1"),
        "f662fe5f05b6591e",
    ),
}
"""Digests of what was written before there was such a line."""
FOLDER_SOURCE = "    - {source: folder}"
"""The line of the packaged params.yaml that `--generated` replaces."""
PACKAGED_SIZE, FINE_SIZE = "size_px: 128", "size_px: 256"
"""Of views: on fewer pixels a visual hull loses the temples of eyeglasses, and the gate rejects it."""
IGNORED = ("/.lostwax/", "/inbox/", "/artifacts/*/.holder.json")
MOST_NAMES = 4

Whose = Literal["nobody's", "ours", "ours, edited", "another's"]


class Generated(StrEnum):
    """What `lostwax init --generated` can ask for."""

    SHOES = "shoes"
    EYEGLASSES = "eyeglasses"
    MIXED = "mixed"

    @property
    def shape(self) -> str:
        """The source's own word."""
        return "shoe" if self is Generated.SHOES else self.value


@dataclass
class Created:
    """written: files and folders, relative to the workspace. notices: what was left as it is, and what to do."""

    written: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def create(folder: Path, generated: Generated | None = None, count: int = 128) -> Created:
    """Make `folder` a workspace, or bring one up to date: params.yaml and edited files stay as they are.

    generated: a new workspace's objects are generated ones, so many. Raises ValueError, and writes nothing, where
    another project's files lie in the way, or where there are params already that `generated` would have to change.
    """
    _refuse_another_project(folder)
    params = folder / "params.yaml"
    if generated and params.is_file():
        raise ValueError(
            f"{params} is there already: put `{_generated_source(generated, count)}` under ingest.sources in it"
        )
    created = Created()
    folder.mkdir(parents=True, exist_ok=True)
    if not params.is_file():
        params.write_text(_first_params(generated, count))
        created.written.append(params.name)
    for name in OURS:
        _bring_up_to_date(folder / name, created)
    if lacking := _blocks_lacking(params):
        blocks = ", ".join(f"`{name}: {{}}`" for name in lacking)
        created.notices.append(f"{params} lacks what `dvc repro` asks for; `lostwax run` does not. Add {blocks}")
    if not (folder / "inbox").is_dir():
        (folder / "inbox").mkdir()
        created.written.append("inbox/")
    if _ignore(folder / ".gitignore"):
        created.written.append(".gitignore")
    return created


def whose(name: str, written: bytes | None) -> Whose:
    """Whose a dvc.yaml or versions.yaml with these bytes is; None where there is none."""
    if written is None:
        return "nobody's"
    marked, body = _parts(written)
    if marked:
        return "ours" if marked == _digest(body) else "ours, edited"
    known = (_digest(_packaged(name)), *BEFORE_MARKS[name])
    return "ours" if any(_digest(body).startswith(digest) for digest in known) else "another's"


def _refuse_another_project(folder: Path) -> None:
    """Raises ValueError where the folder is another project's."""
    elsewhere = f"make the workspace in a folder of its own, `lostwax init {folder / 'lostwax'}` for example"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; {elsewhere}")
    for name in OURS:
        if whose(name, _read(folder / name)) == "another's":
            raise ValueError(
                f"{folder / name} is not what `lostwax init` writes: it stays, and nothing was written. "
                f"If it is another project's, {elsewhere}; if it is this workspace's, move it away and run init again"
            )
    workspace = Workspace(folder)
    if workspace.params_file.is_file() and not workspace.versions_file.is_file():
        try:
            load_params(workspace.params_file)
        except ValueError as error:
            raise ValueError(f"{error}\nIf it is another project's, {elsewhere}") from error


def _bring_up_to_date(path: Path, created: Created) -> None:
    """Write one of our files where it is absent or unedited; say it where an edited one stays behind."""
    written, packaged = _read(path), _packaged(path.name)
    if written is None or whose(path.name, written) == "ours":
        new = packaged
    elif _parts(written)[0] == _digest(packaged):
        return
    elif path.name == "dvc.yaml" and _has_only_additions(written):
        new = merged(_parts(written)[1].decode()).encode()
    else:
        created.notices.append(
            f"{path} has edits and stays as it is; this lostwax has another one "
            f"({_differences(_parts(written)[1], packaged)}): "
            "move it away, run init again, and put your edits into the new one"
        )
        return
    if written is None or _parts(written)[1] != new:
        path.write_bytes(MARK.format(_digest(packaged)).encode() + new)
        created.written.append(path.name)


def _blocks_lacking(params: Path) -> list[str]:
    """Top-level blocks of the packaged params.yaml that the user's lacks: DVC refuses a stage whose block is absent."""
    theirs, packaged = (read_yaml(path).content or {} for path in (params, template(params.name)))
    return [name for name in packaged if name not in theirs]


def _has_only_additions(written: bytes) -> bool:
    """Whether all that a user did to a dvc.yaml is to add stages, deps and vars."""
    made_as, body = _parts(written)
    try:
        return made_as == _digest(without_additions(body.decode()).encode())
    except ValueError:
        return False


def _differences(body: bytes, packaged: bytes) -> str:
    """The entries, two levels deep, in which the two YAML files differ."""
    try:
        mine, new = (dict(_entries(parse_value(text.decode()))) for text in (body, packaged))
    except ValueError:
        return "it is no valid YAML"
    names = sorted(name for name in mine.keys() | new.keys() if mine.get(name) != new.get(name))
    return f"they differ in {some_of(names, MOST_NAMES)}" if names else "they differ in comments alone"


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            yield from ((f"{name}.{key}", entry) for key, entry in inner.items())
        else:
            yield str(name), inner


def _parts(written: bytes) -> tuple[str | None, bytes]:
    """The digest in a file's first line, None where it has no such line, and the rest."""
    text = written.replace(b"\r\n", b"\n")
    match = MARKED.match(text)
    return (match.group(1).decode(), text[match.end() :]) if match else (None, text)


def _packaged(name: str) -> bytes:
    """The packaged file, without the line that a checkout's own root may have been given."""
    return _parts(template(name).read_bytes())[1]


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _first_params(generated: Generated | None, count: int) -> str:
    text = template("params.yaml").read_text()
    if generated is None:
        return text
    if generated is not Generated.SHOES:
        text = text.replace(PACKAGED_SIZE, FINE_SIZE)
    lines = text.splitlines(keepends=True)
    (place,) = (number for number, line in enumerate(lines) if line.startswith(FOLDER_SOURCE))
    lines[place] = f"    {_generated_source(generated, count)}\n"
    return "".join(lines)


def _generated_source(generated: Generated, count: int) -> str:
    return f"- {{source: generated, shape: {generated.shape}, count: {count}}}"


def _ignore(path: Path) -> bool:
    """Have Git pass by what is local; returns whether the file was changed."""
    lines = path.read_bytes().splitlines() if path.is_file() else []
    missing = [line.encode() for line in IGNORED if line.encode() not in lines]
    if missing:
        path.write_bytes(b"\n".join([*lines, *missing]) + b"\n")
    return bool(missing)

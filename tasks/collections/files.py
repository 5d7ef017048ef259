"""Files that are whole or absent, and digests that are not computed twice."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write beside `path`, fsync, rename over it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_partial(folder: Path) -> None:
    """Remove what writers that no longer live left half-written in a folder."""
    for path in folder.glob("*.tmp"):
        pid = path.name.split(".")[-2]
        if not pid.isdigit() or not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)


def write_if_changed(path: Path, data: bytes) -> bool:
    """Write atomically only if the bytes differ, so that DVC and mtimes see no change where there is none."""
    if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    return True


def write_lines_if_changed(path: Path, lines: Callable[[], Iterable[bytes]]) -> bool:
    """The same for more lines than fit in memory. lines: gives all of them each time it is called."""
    if path.is_file():
        with path.open("rb") as file:
            if all(line == other for line, other in zip_longest(file, lines())):
                return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lines())
    return True


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def readable(name: str) -> str:
    r"""A file's name as text for people, logs and UTF-8 files.

    Control characters, and bytes that are not UTF-8, are written as escapes: `caf\xe9`.
    """
    return name if name.isprintable() else "".join(map(_escaped, name))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def explain(error: OSError, where: Path | str) -> str:
    """A full disk or a forbidden folder, in words. where: stands in where the error names no file."""
    path = error.filename or where
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full at {path}; what is finished is safe: free some space and run the same command again"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        problem = f"cannot read or write {path}: {error.strerror} (user id {os.getuid()})"
        return f"{problem}; make the folder writable and run the same command again"
    if isinstance(error, IsADirectoryError | NotADirectoryError | FileNotFoundError | FileExistsError):
        return f"{path}: {error.strerror}"
    return f"{error.strerror or error}: {path}; what is finished is safe: run the same command again"

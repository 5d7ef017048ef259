"""The copies that DVC keeps of a workspace's outputs: what dvc.lock names lies in the cache by its md5.

DVC links a workspace's file to its copy, so that both may be one inode. Damage to the one is damage to the other then,
and DVC, which trusts a copy by its name, would link the damage into the workspace again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import yaml

log = logging.getLogger(__name__)


class DvcCache:
    """What dvc.lock names of a workspace, and where DVC keeps it. Read when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digests: dict[Path, str] | None = None
        self._folder: Path | None = None

    def names(self, path: Path) -> bool:
        """Whether dvc.lock names the file with the bytes that it has now."""
        return path.is_file() and self._recorded().get(path) == _md5(path)

    def files_of(self, folder: Path) -> list[Path]:
        """The files that dvc.lock names in a folder that is an output."""
        return sorted(path for path in self._recorded() if path.parent == folder)

    def restore(self, path: Path) -> bool:
        """Copy DVC's copy to where a file was lost or damaged; False where DVC has no whole one."""
        copy = self._whole_copy(path)
        if copy is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        shutil.copyfile(copy, partial)
        partial.chmod(0o444)
        partial.replace(path)
        log.warning("%s is taken from DVC's cache", path)
        return True

    def drop_damaged_copy(self, path: Path) -> None:
        """Let DVC make a new copy of a file that was mended, if the one it has is damaged."""
        self._whole_copy(path)

    def _whole_copy(self, path: Path) -> Path | None:
        """DVC's copy of a file that dvc.lock names. A damaged one is removed, which DVC takes as not yet copied."""
        digest = self._recorded().get(path)
        copy = self._copy(digest) if digest else None
        if copy is None or not copy.is_file():
            return None
        if _md5(copy) == digest:
            return copy
        copy.unlink()
        log.warning("DVC's copy of %s was damaged, too, and is removed", path)
        return None

    def _recorded(self) -> Mapping[Path, str]:
        """md5 by path of every file that dvc.lock names."""
        if self._digests is None:
            self._digests = {}
            for entry in self._outputs():
                path, digest = self._root / entry["path"], str(entry.get("md5", ""))
                if digest.endswith(".dir"):
                    self._digests |= {path / name: inner for name, inner in self._listing(digest).items()}
                else:
                    self._digests[path] = digest
        return self._digests

    def _outputs(self) -> list[Mapping[str, str]]:
        lock = self._root / "dvc.lock"
        stages = (yaml.safe_load(lock.read_text()) or {}).get("stages", {}) if lock.is_file() else {}
        return [output for stage in stages.values() for output in stage.get("outs", [])]

    def _listing(self, digest: str) -> Mapping[str, str]:
        copy = self._copy(digest)
        try:
            entries = json.loads(copy.read_bytes()) if copy else []
        except (FileNotFoundError, ValueError):
            return {}
        return {entry["relpath"]: entry["md5"] for entry in entries}

    def _copy(self, digest: str) -> Path | None:
        if self._folder is None:
            if not (self._root / ".dvc").is_dir():
                return None
            from dvc.config import Config

            self._folder = Path(Config(str(self._root / ".dvc"))["cache"].get("dir") or self._root / ".dvc" / "cache")
        return self._folder / "files" / "md5" / digest[:2] / digest[2:]


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

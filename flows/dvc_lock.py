"""dvc.lock kept in step: after a stage succeeded under Prefect, DVC is told; `dvc repro` then finds nothing to do."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.dvc import call
from tasks.collections.files import file_sha256, write_atomically
from tasks.engine.outcome import StageFailed
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DvcLock:
    """Records stages of one workspace, one at a time. Does nothing where the workspace is no DVC repository."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._memory = workspace.root / ".lostwax" / "dvc-recorded.json"
        self._recorded: dict[str, str] = {}
        self._parsed: dict[Path, tuple[str, Any]] = {}
        self._graph: dict[str, Any] = self._read(workspace.root / "dvc.yaml")["stages"]
        self._enabled = (workspace.root / ".dvc").is_dir()

    def dependencies(self, stage: str) -> str:
        """A digest of what DVC watches for a stage: deps, params.yaml and versions.yaml. Folders by their listing."""
        digest = hashlib.sha256()
        params = self._read(self._workspace.params_file)
        for path in (self._workspace.params_file, self._workspace.versions_file):
            digest.update(file_sha256(path).encode())
        for dep in self._graph.get(stage, {}).get("deps", []):
            path = self._workspace.root / _resolve(dep, params)
            digest.update(_signature(path).encode())
        return digest.hexdigest()

    def record(self, stage: str, before: str, say: Callable[[str], None]) -> None:
        """`dvc commit -f STAGE`, unless a dependency moved since `before` or the lock already says so.

        A stage that the workspace's dvc.yaml does not have is nothing to DVC.
        """
        if not self._enabled or stage not in self._graph:
            return
        if self.dependencies(stage) != before:
            say(f"{stage}: its inputs changed while it ran; not recorded in dvc.lock, run again")
            return
        state = self._state(stage, before)
        if state is not None and self._read_memory().get(stage) == state:
            return
        if not self._dvc("commit", "--force", stage):
            return
        if self.dependencies(stage) != before:
            self._forget(stage)
            say(f"{stage}: its inputs changed while it was recorded; run again")
            return
        self._remember({stage: before})
        self._recorded[stage] = before

    def relink(self) -> None:
        """Replace what was recorded by links into DVC's cache, so that the data lie on the disk once."""
        if self._recorded and self._dvc("checkout", "--relink", *self._recorded):
            self._remember(self._recorded)  # links have times of their own
            self._recorded = {}

    def _state(self, stage: str, dependencies: str) -> list[str] | None:
        """What was recorded: dependencies, the lock's entry, and the outputs as they lie there."""
        lock = self._workspace.root / "dvc.lock"
        entry = (self._read(lock) or {}).get("stages", {}).get(stage) if lock.is_file() else None
        if entry is None:
            return None
        outputs = [_signature(self._workspace.root / path) for path in self._outputs(stage)]
        return [dependencies, hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest(), *outputs]

    def _read(self, path: Path) -> Any:
        """A YAML file, parsed once as long as it does not change."""
        digest = file_sha256(path)
        if path not in self._parsed or self._parsed[path][0] != digest:
            self._parsed[path] = (digest, yaml.load(path.read_bytes(), Loader=FAST_LOADER))  # noqa: S506  # a safe one
        return self._parsed[path][1]

    def _outputs(self, stage: str) -> Iterable[str]:
        for kind in ("outs", "metrics", "plots"):
            for out in self._graph[stage].get(kind, []):
                yield out if isinstance(out, str) else next(iter(out))

    def _remember(self, dependencies: Mapping[str, str]) -> None:
        memory = self._read_memory() | {stage: self._state(stage, before) for stage, before in dependencies.items()}
        write_atomically(self._memory, json.dumps(memory, indent=1, sort_keys=True).encode())

    def _read_memory(self) -> dict[str, Any]:
        try:
            memory = json.loads(self._memory.read_bytes())
        except (FileNotFoundError, ValueError):  # it only saves work: without it the stage is recorded again
            return {}
        return memory if isinstance(memory, dict) else {}

    def _forget(self, stage: str) -> None:
        lock = self._workspace.root / "dvc.lock"
        content = yaml.safe_load(lock.read_text())
        content["stages"].pop(stage, None)
        write_atomically(lock, yaml.safe_dump(content, sort_keys=False).encode())

    def _dvc(self, *arguments: str) -> bool:
        """Whether it succeeded; its reason is logged where not."""
        try:
            call(self._workspace.root, *arguments)
        except StageFailed as error:
            log.warning("%s", error)
            return False
        return True


def _signature(path: Path) -> str:
    """Digest of a file's bytes; of a folder, its names, sizes and times."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for inner in sorted(path.rglob("*")):
        if inner.is_file():
            stat = inner.stat()
            digest.update(os.fsencode(inner.relative_to(path)) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _resolve(text: str, params: Any) -> str:
    """dvc.yaml's `${a.b}` in a dependency; as it stands where params.yaml leaves it out, which DVC will then say."""
    if not text.startswith("${"):
        return text
    value = params
    for part in text[2:-1].split("."):
        if not isinstance(value, Mapping) or part not in value:
            return text
        value = value[part]
    return str(value)

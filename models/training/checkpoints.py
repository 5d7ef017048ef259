"""Checkpoints as safetensors: no pickle, written whole or not at all, the newest two kept.

One file holds one moment: `model.*`, `ema.*`, `best.*`, `optimizer.<parameter>.<field>` and `rng.*` tensors; step,
history and configuration as JSON in the header.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

log = logging.getLogger(__name__)

KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """tensors: by dotted name. facts: JSON (step, history...)."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]

    def group(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors whose names begin with `prefix.`, without it."""
        return {
            name.removeprefix(f"{prefix}."): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(f"{prefix}.")
        }


class Checkpoints:
    """The checkpoints of one training in one folder; `config` (JSON) must stay the same over resumes."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self._config: dict[str, Any] = json.loads(json.dumps(config))

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write atomically (temporary file, fsync, rename, fsync of the folder), then drop all but the newest two."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        data = save(tensors, {"facts": json.dumps(checkpoint.facts), "config": json.dumps(self._config)})
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:09d}.safetensors"
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
        _fsync_folder(self.folder)
        for old in self._paths()[KEPT:]:
            old.unlink()
        return path

    def load_latest(self) -> Checkpoint | None:
        """The newest readable checkpoint, or None. ValueError if it was made with another configuration."""
        for path in self._paths():
            try:
                checkpoint, config = _read(path)
            except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
                log.warning("checkpoint %s is unreadable (%s); trying the one before it", path, error)
                continue
            self._check(config, path)
            return checkpoint
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def _check(self, config: dict[str, Any], path: Path) -> None:
        names = sorted(config.keys() | self._config.keys())
        differing = [
            f"{name} was {config.get(name)!r}, is {self._config.get(name)!r}"
            for name in names
            if config.get(name) != self._config.get(name)
        ]
        if differing:
            raise ValueError(
                f"checkpoint {path} belongs to another training: {'; '.join(differing)}. "
                f"Restore these settings, or delete {self.folder} to start anew"
            )


def _read(path: Path) -> tuple[Checkpoint, dict[str, Any]]:
    with safe_open(path, framework="pt") as stored:
        metadata = stored.metadata()
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a mapping)
    return Checkpoint(tensors, json.loads(metadata["facts"])), json.loads(metadata["config"])


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

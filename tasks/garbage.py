"""`gc`: forget superseded items and gather small shards. The only thing that ever deletes finished work."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from tasks.collections.holder import holding
from tasks.collections.index import Held
from tasks.collections.records import identity, read_items
from tasks.collections.spool import rewrite
from tasks.collections.statcache import StatCache
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Collected:
    """What gc did to a stage (or would do)."""

    stage: str
    kept: int
    dropped: int
    freed_mb: float


def collect(workspace: Workspace, stage: str, *, dry_run: bool) -> Collected:
    """Keep the published items only. Raises HeldByAnother while the stage runs.

    New shards are written and synced before old ones go: a kill at any moment loses nothing published.
    """
    local, shards = workspace.local(stage), workspace.shards_dir(stage)
    with holding(local, stage):
        stats = StatCache(workspace.stat_cache_file)
        held = Held(local, shards, stats.digest)
        held.refresh()
        stats.close()
        published = {identity(line) for line in read_items(workspace.items_file(stage)).lines.values()}
        superseded = [pair for pair in held.pairs() if pair not in published]
        before = _size(workspace, stage)
        if not dry_run:
            _rewrite_shards(workspace, stage, held, published, superseded)
            shutil.rmtree(local / "work", ignore_errors=True)
        freed = (before - _size(workspace, stage)) / 1e6 if not dry_run else held.size_of(superseded) / 1e6
        return Collected(stage, len(held) - len(superseded), len(superseded), freed)


def _rewrite_shards(
    workspace: Workspace, stage: str, held: Held, published: set[tuple[str, str]], superseded: list[tuple[str, str]]
) -> None:
    local, shards = workspace.local(stage), workspace.shards_dir(stage)
    touched = {place[0] for pair in superseded if (place := held.place(*pair))}
    small = {name for name in held.shard_sizes() if (shards / f"{name}.tar").stat().st_size < 32 << 20}
    if len(small) > 1:
        touched |= small
    if not touched:
        return
    new = rewrite(local, shards, sorted(touched), published)
    for name in touched - {new}:
        (shards / f"{name}.tar").unlink()
        (local / f"{name}.idx").unlink(missing_ok=True)


def _size(workspace: Workspace, stage: str) -> int:
    folder = workspace.shards_dir(stage)
    return sum(entry.stat().st_size for entry in os.scandir(folder)) if folder.is_dir() else 0

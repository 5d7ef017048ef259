"""`gc`: forget superseded items and gather small shards. The only thing that ever deletes finished work."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tasks.collections.dvc_cache import DvcCache
from tasks.collections.holder import holding
from tasks.collections.index import Finished
from tasks.collections.ledger import Ledger
from tasks.collections.records import from_line, identity, read_items
from tasks.collections.spool import rewrite
from tasks.collections.statcache import StatCache
from tasks.engine.publishing import check_published
from tasks.workspace import Workspace

SMALL_BYTES = 32 << 20


@dataclass(frozen=True)
class Collected:
    """What gc did to a stage (or would do)."""

    stage: str
    kept: int
    dropped: int
    freed_mb: float
    seconds: float
    """That the dropped items took to make, where this machine made them: what making them again would cost."""


def collect(workspace: Workspace, stage: str, *, dry_run: bool) -> Collected:
    """Keep the published items, and what an unfinished run has finished so far; a trial's own go.

    Raises HeldByAnother while it runs, and StageFailed where the list of published items is not what was published.
    New shards are written and synced before old ones go: a kill at any moment loses nothing that is kept.
    """
    local, shards = workspace.local(stage), workspace.shards_dir(stage)
    with holding(stage, local, workspace.artifacts(stage)):
        with closing(StatCache(workspace.stat_cache_file)) as stats:
            check_published(workspace, stage, stats, DvcCache(workspace.root))
            finished = Finished(local, shards, stats.digest)
            finished.refresh()
        with Ledger(local) as ledger:
            unfinished = ledger.unpublished_recipe()
            seconds = ledger.seconds_by_key()
        keep = {identity(line) for line in read_items(workspace.items_file(stage)).lines()}
        if unfinished is not None:
            keep |= {identity(line) for line in finished.lines() if from_line(line).recipe == unfinished}
        superseded = [pair for pair in finished.pairs() if pair not in keep]
        cost_s = sum(seconds.get(key, 0.0) for _, key in superseded)
        before = _size(workspace, stage)
        if not dry_run:
            _rewrite_shards(local, shards, finished, keep)
            if unfinished is None:
                shutil.rmtree(local / "work", ignore_errors=True)
        freed = (before - _size(workspace, stage)) / 1e6 if not dry_run else finished.size_of(superseded) / 1e6
        return Collected(stage, len(finished) - len(superseded), len(superseded), freed, cost_s)


def forget_trials(workspace: Workspace) -> None:
    """Remove the lists of trials; what they hold beside the published items is gone by then."""
    shutil.rmtree(workspace.trials, ignore_errors=True)


def _rewrite_shards(local: Path, shards: Path, finished: Finished, keep: set[tuple[str, str]]) -> None:
    """Replace every shard with something else in it than items to keep (each once), and all small ones, by one."""
    kept = Counter(location[0] for pair in keep if (location := finished.location(*pair)))
    touched = {name for name, num_items in finished.shard_sizes().items() if num_items != kept[name]}
    small = {name for name in finished.shard_sizes() if (shards / f"{name}.tar").stat().st_size < SMALL_BYTES}
    if len(small) > 1:
        touched |= small
    lines = {line for pair in keep if (line := finished.line(*pair))}
    new = rewrite(local, shards, sorted(touched), lines) if touched else None
    for name in touched - {new}:
        (shards / f"{name}.tar").unlink()
    for index in local.glob("*.idx"):
        if not (shards / f"{index.stem}.tar").is_file():
            index.unlink()


def _size(workspace: Workspace, stage: str) -> int:
    folder = workspace.shards_dir(stage)
    return sum(entry.stat().st_size for entry in os.scandir(folder)) if folder.is_dir() else 0

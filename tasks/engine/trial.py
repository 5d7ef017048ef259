"""Trials: runs with `--set`. What they compute is stored under its keys; what is published stays as it is.

A trial reads and writes lists of its own (`Workspace.published`), which begin as copies of the published ones.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence

from tasks.workspace import Workspace

LISTS = ("items.jsonl", "failures.json", "metrics.json")


def trial_of(workspace: Workspace, overrides: Sequence[str]) -> Workspace:
    """The workspace as a trial with these overrides sees it; the same without any. Equal overrides are one trial."""
    if not overrides:
        return workspace
    return Workspace(workspace.root, hashlib.sha256("\n".join(sorted(overrides)).encode()).hexdigest()[:12])


def begin_trial(workspace: Workspace, overrides: Sequence[str], stages: Iterable[str]) -> Workspace:
    """`trial_of`, with its lists laid out: newer ones of the published collections are taken over."""
    trial = trial_of(workspace, overrides)
    for stage in stages if overrides else ():
        for file in LISTS:
            own, theirs = trial.published(stage) / file, workspace.published(stage) / file
            if theirs.is_file() and not (own.is_file() and own.stat().st_mtime_ns >= theirs.stat().st_mtime_ns):
                own.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(theirs, own)
    return trial

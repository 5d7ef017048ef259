"""What the Prefect UI shows of a stage: progress, a table of failures, sample pictures."""

from __future__ import annotations

import base64
import json
import time
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from tasks.outcome import Outcome, Progress
from tasks.worker import open_upstream
from tasks.workspace import Workspace

UPDATE_EVERY_S = 2.0
MAX_ROWS = 200
NUM_SAMPLES = 6


class StageArtifacts:
    """The artifacts of one stage's task run; to be used inside it."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._progress: UUID | None = None
        self._updated_at = 0.0

    def progress(self, progress: Progress) -> None:
        """Move the progress bar, at most every other second."""
        if time.monotonic() - self._updated_at < UPDATE_EVERY_S:
            return
        self._updated_at = time.monotonic()
        percent = 100.0 * (progress.done + progress.failed) / max(1, progress.total)
        left = f", {progress.left_s:.0f} s left" if progress.left_s is not None else ""
        text = progress.text or f"{progress.done} of {progress.total}, {progress.rate:.3g} items/s{left}"
        if self._progress is None:
            self._progress = create_progress_artifact(percent, key=f"{self._stage}-progress", description=text)
        else:
            update_progress_artifact(self._progress, percent, description=text)

    def finished(self, outcome: Outcome, workspace: Workspace) -> None:
        """The final bar, the failures with their reasons, and a few pictures where the stage makes any."""
        text = outcome.line()
        if self._progress is None:
            self._progress = create_progress_artifact(100.0, key=f"{self._stage}-progress", description=text)
        else:
            update_progress_artifact(self._progress, 100.0, description=text)
        self._failures(workspace)
        self._samples(workspace)

    def _failures(self, workspace: Workspace) -> None:
        path = workspace.failures_file(self._stage)
        entries = json.loads(path.read_text()) if path.is_file() else []
        if entries:
            rows = [{name: entry.get(name, "") for name in ("label", "state", "class", "message")} for entry in entries]
            words = f"{len(entries)} items of {self._stage} are not done" + (", the first:" if len(rows) > MAX_ROWS else "")
            create_table_artifact(rows[:MAX_ROWS], key=f"{self._stage}-failures", description=words)

    def _samples(self, workspace: Workspace) -> None:
        upstream = open_upstream(workspace, self._stage)
        pictures = []
        for item_id, record in upstream.records.items():
            names = [name for name in ("view.front.png", "photo.front.png") if name in record.files]
            if names and record.files[names[0]].size < 200_000:
                encoded = base64.b64encode(upstream.read(item_id, names[0])).decode()
                pictures.append(f"![{item_id}](data:image/png;base64,{encoded})")
            if len(pictures) == NUM_SAMPLES:
                break
        if pictures:
            create_markdown_artifact(" ".join(pictures), key=f"{self._stage}-samples", description="Front views")

"""A workspace: a folder with params.yaml, versions.yaml, dvc.yaml, inbox/ and artifacts/. All paths come from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """Paths of a workspace; `root` is absolute.

    trial: the name of a variation (`--set`), whose lists lie apart: it shares what is stored, and publishes nothing.
    """

    root: Path
    trial: str = ""

    @staticmethod
    def find(start: Path) -> Workspace:
        """The workspace that `start` is, or lies in. Raises FileNotFoundError saying how to make one."""
        start = start.resolve()
        for folder in (start, *start.parents):
            if (folder / "params.yaml").is_file() and (folder / "versions.yaml").is_file():
                return Workspace(folder)
        raise FileNotFoundError(f"no workspace at {start} or above it; make one with `lostwax init {start}`")

    @property
    def params_file(self) -> Path:
        return self.root / "params.yaml"

    @property
    def versions_file(self) -> Path:
        return self.root / "versions.yaml"

    def artifacts(self, stage: str) -> Path:
        """Versioned outputs of a stage."""
        return self.root / "artifacts" / stage

    def local(self, stage: str) -> Path:
        """What a stage keeps on this machine only: lock, spools, indexes, ledger, work in progress."""
        return self.root / ".lostwax" / stage

    @property
    def stat_cache_file(self) -> Path:
        return self.root / ".lostwax" / "files.db"

    @property
    def environments(self) -> Path:
        """Python environments of teachers, one folder each."""
        return self.root / ".lostwax" / "environments"

    @property
    def trials(self) -> Path:
        """What trials would publish, a folder each."""
        return self.root / ".lostwax" / "trials"

    def published(self, stage: str) -> Path:
        """Where a stage's lists and pages are laid: in its artifacts, or apart where this is a trial."""
        return self.trials / self.trial / stage if self.trial else self.artifacts(stage)

    def items_file(self, stage: str) -> Path:
        return self.published(stage) / "items.jsonl"

    def shards_dir(self, stage: str) -> Path:
        return self.artifacts(stage) / "shards"

    def failures_file(self, stage: str) -> Path:
        return self.published(stage) / "failures.json"

    def metrics_file(self, stage: str) -> Path:
        return self.published(stage) / "metrics.json"

    def scores_file(self, stage: str) -> Path:
        """A few of the metrics, narrow enough for `dvc metrics show`."""
        return self.published(stage) / "scores.json"


def template(name: str) -> Path:
    """The packaged params.yaml, versions.yaml or dvc.yaml: in the wheel, or at the root of a checkout."""
    packaged = Path(__file__).parent / "defaults" / name
    return packaged if packaged.is_file() else Path(__file__).parent.parent / name

"""What a stage reads: the records that other stages have published, and where their bytes lie."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tasks.collections.index import Finished, ItemReader
from tasks.collections.records import KeptLines, Record, RecordLines, read_items
from tasks.collections.statcache import StatCache
from tasks.engine.outcome import StageFailed
from tasks.engine.stage import Context, Stage, Upstream
from tasks.params import Params
from tasks.workspace import Workspace

log = logging.getLogger(__name__)


class UpstreamLines:
    """The published records of an upstream collection and where their bytes lie."""

    def __init__(self, workspace: Workspace, name: str, stats: StatCache) -> None:
        self.name = name
        self.records: RecordLines = KeptLines()
        self._workspace = workspace
        self._finished = Finished(workspace.local(name), workspace.shards_dir(name), stats.digest)
        self._is_loaded = False
        self.reader = ItemReader(workspace.shards_dir(name))

    def load(self, wanted_by: str) -> None:
        path = self._workspace.items_file(self.name)
        if not path.is_file():
            raise StageFailed(
                f"{wanted_by} needs {self.name}, which has not run here; "
                f"run `lostwax run --until {wanted_by}` or `dvc checkout`"
            )
        self.adopt(read_items(path))

    def adopt(self, records: RecordLines) -> None:
        """Use records that a run would publish instead of the published ones."""
        self.records = records

    def location(self, record: Record) -> tuple[str, int]:
        """(shard, offset) of a record's bytes. Raises StageFailed where they are not on this machine."""
        if not self._is_loaded:  # nobody asks where there is nothing to compute
            self._finished.refresh()
            self._is_loaded = True
        location = self._finished.location(record.id, record.key)
        if location is None:
            raise StageFailed(
                f"the bytes of item {record.id} of {self.name} are not here; run `dvc checkout` or "
                f"`lostwax run --until {self.name}`"
            )
        return location

    def as_upstream(self) -> Upstream:
        return Upstream(
            self.name,
            self.records,
            lambda record, file_name: self.reader.read(self.location(record), record, file_name),
        )


def planning_context(
    stage: Stage,
    workspace: Workspace,
    params: Params,
    stats: StatCache,
    upstreams: Mapping[str, UpstreamLines],
    versions: Mapping[str, int],
) -> Context:
    """The context in which a stage lists what it wants: records and digests, nothing heavy."""
    return Context(
        workspace=workspace.root,
        params=params,
        device="cpu",
        num_threads=1,
        work_dir=workspace.local(stage.name),
        upstreams={name: upstream.as_upstream() for name, upstream in upstreams.items()},
        progress=log.info,
        trial=workspace.trial,
        digest=stats.digest,
        published=_published(stage, workspace, stats) if stage.product else None,
        versions=versions,
    )


def _published(stage: Stage, workspace: Workspace, stats: StatCache) -> Upstream:
    return published_lines(workspace, stage.name, stats).as_upstream()


def published_lines(workspace: Workspace, name: str, stats: StatCache) -> UpstreamLines:
    """What a collection has published, be it nothing."""
    found = UpstreamLines(workspace, name, stats)
    found.adopt(read_items(workspace.items_file(name)))
    return found

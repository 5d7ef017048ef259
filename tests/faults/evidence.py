"""What lies on disk after a kill, read with nothing but tarfile, json and sha256: the code under test is not asked."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from tasks.collections.inflight import living_workers
from tasks.workspace import Workspace
from tests.support import Finished, Running, wait_until
from tests.toy import computed

Pair = tuple[str, str]


def whole_items(path: Path) -> list[Pair]:
    """(id, key) of the items in a tar or a torn spool whose record is whole and whose bytes match it."""
    found: list[Pair] = []
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                assert stream is not None
                files[member.name] = stream.read()
                if member.name.endswith(".record.json"):
                    found += _matching(files, member.name.removesuffix(".record.json"))
                    files = {}
    except tarfile.ReadError:  # the torn tail
        pass
    return found


def _matching(files: dict[str, bytes], prefix: str) -> list[Pair]:
    record = json.loads(files[f"{prefix}.record.json"])
    digests = {name: hashlib.sha256(files[f"{prefix}.{name}"]).hexdigest() for name in record["files"]}
    whole = digests == {name: entry["sha256"] for name, entry in record["files"].items()}
    return [(record["id"], record["key"])] if whole else []


def finished_items(workspace: Workspace, stage: str) -> set[Pair]:
    """Every item that is finished: in a shard, or in the spool of a dead worker."""
    paths = [*workspace.shards_dir(stage).glob("*.tar"), *workspace.local(stage).glob("spool-*.tar")]
    return {pair for path in paths for pair in whole_items(path)}


def held_twice(workspace: Workspace, stage: str) -> list[Pair]:
    """Items that the shards hold more than once."""
    counts = Counter(pair for path in workspace.shards_dir(stage).glob("*.tar") for pair in whole_items(path))
    return [pair for pair, count in counts.items() if count > 1]


def traces_of_work(workspace: Workspace, stage: str) -> set[Path]:
    """What a worker leaves behind from its first item on. New traces tell that a run is at work."""
    local = workspace.local(stage)
    return {*local.glob("spool-*.tar"), *local.glob("inflight-*")}


def traces_of_progress(workspace: Workspace, stage: str) -> set[Path]:
    """What a worker leaves behind only once its libraries are loaded and real work is done."""
    local = workspace.local(stage)
    return {*local.glob("spool-*.tar"), *local.glob("work/*/checkpoints/step-*.safetensors")}


def in_hand(workspace: Workspace, stage: str) -> dict[Path, Pair]:
    """(id, key) of the item that each worker, living or dead, has begun and not put away, by its marker."""
    found: dict[Path, Pair] = {}
    for path in workspace.local(stage).glob("inflight-*"):
        if words := path.read_text().split():
            found[path] = (words[0], words[1])
    return found


def nobody_works(workspace: Workspace, stage: str) -> bool:
    return not any(living_workers(workspace.local(stage)))


class Storm:
    """Kills runs of a stage at random moments of real work, and proves after each kill that nothing finished was lost.

    A finished item is never computed again: from the kill on, its (id, key) may not appear in the toy's computed.log
    once more, nor in the hands of a new worker. traces: what tells, where it is new, that a run is at work.
    """

    def __init__(
        self,
        workspace: Workspace,
        start: Callable[[], Running],
        seed: int,
        *,
        stage: str = "toy",
        traces: Callable[[Workspace, str], set[Path]] = traces_of_work,
    ) -> None:
        self.workspace = workspace
        self.num_kills = 0
        self._start = start
        self._stage = stage
        self._traces = traces
        self._rng = random.Random(seed)
        self._finished: set[Pair] = set()
        self._seen = 0

    def kill(self, within_s: float) -> bool:
        """Start a run, kill its whole process group up to within_s after work has begun; False where it ended first."""
        before, markers = self._traces(self.workspace, self._stage), in_hand(self.workspace, self._stage)
        running = self._start()
        while running.alive and not self._traces(self.workspace, self._stage) - before:
            time.sleep(0.002)
        time.sleep(self._rng.uniform(0, within_s))
        alive = running.alive
        ended = running.kill_all()
        assert alive or ended.exit_code == 0, ended.stderr
        wait_until(lambda: nobody_works(self.workspace, self._stage))
        self.num_kills += alive
        begun = {pair for path, pair in in_hand(self.workspace, self._stage).items() if path not in markers}
        again = self._finished & begun
        assert not again, f"begun although finished before kill {self.num_kills}: {again}"
        self.check()
        return alive

    def finish(self) -> Finished:
        """Run to the end."""
        ended = self._start().wait()
        self.check()
        return ended

    def check(self) -> None:
        """Nothing finished is lost, and since it was finished nothing was computed again."""
        log = computed(self.workspace)
        again = self._finished.intersection(log[self._seen :])
        assert not again, f"computed although finished before kill {self.num_kills}: {again}"
        now = finished_items(self.workspace, self._stage)
        assert self._finished <= now, f"lost after kill {self.num_kills}: {self._finished - now}"
        self._finished, self._seen = now, len(log)


def workers_of(running: Running) -> list[psutil.Process]:
    """The living worker processes of a run."""
    try:
        children = psutil.Process(running.popen.pid).children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []

"""What tests share: workspaces, stages run in processes of their own, and items made by hand.

def test_silhouettes_are_the_alpha_channel(tmp_path):
    item = make_item({"views": {"view.front.png": png}}, facts={"views": {"views": ["front"]}})
    output = start(Silhouettes(), tmp_path, {"silhouettes": {"threshold": 0.5}})(item)
    assert output.files == {"silhouette.png": expected}
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.collections.records import Record
from tasks.collections.tarball import file_entries
from tasks.engine.stage import Context, Item, Output, Stage, Upstream
from tasks.params import Params
from tasks.scaffold import create
from tasks.workspace import Workspace

ROOT = Path(__file__).parent.parent
PLUGINS = ROOT / "tests" / "plugins"
"""What another installed package would bring: on the path of every process that tests start."""
TOY_ID = "0123456789abcdef"
TOY_KEY = "k" * 64
Files = Mapping[str, bytes]


def make_workspace(folder: Path, params: Mapping[str, Any] | None = None) -> Workspace:
    """A new workspace; `params`, where given, is the whole of its params.yaml."""
    create(folder)
    if params is not None:
        (folder / "params.yaml").write_text(yaml.safe_dump(dict(params)))
    return Workspace(folder.resolve())


def make_record(
    files: Files, *, item_id: str = TOY_ID, key: str = TOY_KEY, facts: Mapping[str, Any] | None = None, **fields: Any
) -> Record:
    """The record of an item with these files. fields: frame, quality, rung, recipe."""
    return Record(item_id, key, file_entries(files), facts=dict(facts or {}), **fields)


def make_item(
    upstreams: Mapping[str, Files],
    *,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    item_id: str = TOY_ID,
    label: str = "toy",
    work_dir: Path = Path(),
) -> Item:
    """An item as a worker gets it. upstreams: its files by upstream stage; facts: those of its records there."""
    facts = facts or {}
    records = {stage: make_record(files, item_id=item_id, facts=facts.get(stage)) for stage, files in upstreams.items()}
    return Item(item_id, TOY_KEY, label, records, lambda stage, _, name: upstreams[stage][name], work_dir)


def make_context(
    workspace: Path,
    params: Mapping[str, Any] | None = None,
    *,
    upstreams: Mapping[str, Mapping[str, tuple[Record, Files]]] | None = None,
    extra_stages: Iterable[Stage] = (),
    payloads: Mapping[str, Any] | None = None,
    num_threads: int = 1,
) -> Context:
    """A context as `Stage.wanted` and `Stage.start` get it.

    params: raw blocks, defaults elsewhere. upstreams: (record, files) by stage and item id. extra_stages: stages of the
    test's own that have a block. payloads: what `wanted` attached, by item id.
    """
    work_dir = workspace / "work"
    work_dir.mkdir(parents=True, exist_ok=True)
    return Context(
        workspace=workspace,
        params=Params(params or {}, extra_stages),
        device="cpu",
        num_threads=num_threads,
        work_dir=work_dir,
        upstreams={name: _upstream(name, items) for name, items in (upstreams or {}).items()},
        progress=lambda _: None,
        payload=lambda item_id: (payloads or {}).get(item_id),
    )


def _upstream(name: str, items: Mapping[str, tuple[Record, Files]]) -> Upstream:
    records = {item_id: record for item_id, (record, _) in items.items()}
    return Upstream(name, records, lambda record, file_name: items[record.id][1][file_name])


def start(stage: Stage, workspace: Path, params: Mapping[str, Any] | None = None) -> Callable[[Item], Output]:
    """`stage.start` with a hand-made context: what handles one item."""
    return stage.start(make_context(workspace, params, extra_stages=[stage]))


@dataclass
class Finished:
    """How a process ended. seconds: its wall-clock time."""

    exit_code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def outcome(self) -> dict[str, Any]:
        """What it printed, as JSON."""
        value: dict[str, Any] = json.loads(self.stdout)
        return value


class Running:
    """`python -P -m MODULE ARGUMENTS...` in a session of its own, so that a test can kill all of it at once."""

    def __init__(self, module: str, *arguments: str | Path, cwd: Path | None = None) -> None:
        self._started = time.monotonic()
        self.popen = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *map(str, arguments)],
            cwd=cwd or ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{PLUGINS}", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def wait(self, timeout_s: float = 120) -> Finished:
        """Its end; kills it and raises subprocess.TimeoutExpired when that takes longer."""
        try:
            stdout, stderr = self.popen.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise
        return Finished(self.popen.returncode, stdout, stderr, time.monotonic() - self._started)

    def terminate(self) -> None:
        """SIGTERM to the process itself, as `docker stop` and Prefect send it."""
        self.popen.terminate()

    def kill_all(self) -> Finished:
        """SIGKILL to the whole process group, as a machine's end would look."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        stdout, stderr = self.popen.communicate()
        return Finished(self.popen.returncode, stdout, stderr, time.monotonic() - self._started)


def run_module(module: str, *arguments: str | Path, cwd: Path | None = None, timeout_s: float = 120) -> Finished:
    """`python -P -m MODULE ARGUMENTS...` to its end."""
    return Running(module, *arguments, cwd=cwd).wait(timeout_s)


def run_task(stage: str, workspace: Workspace, *options: str, timeout_s: float = 120) -> Finished:
    """`python -P -m tasks STAGE` in a workspace, to its end."""
    return run_module("tasks", stage, *options, cwd=workspace.root, timeout_s=timeout_s)


def wait_until(condition: Callable[[], object], timeout_s: float = 30, every_s: float = 0.005) -> None:
    """Poll until `condition()` is true. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(every_s)

"""The worker process: `python -P -m tasks.worker`, started by the supervisor and told what to do over its standard input.

Protocol 1, one JSON object a line. To the worker: {"hello": ...} once, then {"chunk": [item, ...]} and {"stop": true}.
From it: {"results": [...]}, {"progress": text}, {"unavailable": text}, {"environment": text}, {"sealed": ...}.
Whatever libraries print goes to the worker's log: the protocol has a descriptor of its own.
"""

from __future__ import annotations

import ctypes
import errno
import json
import logging
import os
import queue
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from models.errors import BadInput, EmptyOutput, Unavailable
from tasks.collections.index import DamagedShard, Held, ItemReader
from tasks.collections.inflight import InFlight
from tasks.collections.records import from_line, read_items
from tasks.collections.spool import Spool
from tasks.collections.tarball import file_entries
from tasks.params import Params
from tasks.stage import Context, Item, Output, Record, Stage, Upstream
from tasks.stages import load_class
from tasks.workspace import Workspace

PROTOCOL = 1
FLUSH_EVERY_S = 0.2
ENVIRONMENT_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.EIO}


class Worker:
    """One stage, one process, one spool."""

    def __init__(self, hello: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None]) -> None:
        if hello["protocol"] != PROTOCOL:
            raise ValueError(f"the supervisor speaks protocol {hello['protocol']}, this worker {PROTOCOL}")
        self._workspace = Workspace(Path(hello["workspace"]))
        self._stage: Stage = load_class(hello["stage"])()
        self._recipe: str = hello["recipe"]
        self._params = Params(hello["params"], [self._stage])
        self._send = send
        self._device = resolve_device(hello["device"], hello["worker_index"])
        self._num_threads: int = hello["num_threads"]
        self._local = self._workspace.local(self._stage.name)
        self._in_flight = InFlight(self._local)
        self._spool = Spool(self._local, self._workspace.shards_dir(self._stage.name))
        self._readers: dict[str, ItemReader] = {}
        self._results: list[dict[str, Any]] = []
        self._flushed_at = time.monotonic()
        self._payloads: dict[str, Any] = {}

    def run(self, messages: queue.SimpleQueue[Mapping[str, Any] | None]) -> None:
        """Handle chunks until told to stop; seals the spool on every way out but death."""
        try:
            run_item = self._stage.start(self._context())
        except Unavailable as error:
            self._send({"unavailable": str(error)})
            return
        try:
            while (message := messages.get()) is not None:
                for task in message["chunk"]:
                    if message.get("stopped"):
                        break
                    self._do(run_item, task)
                self._flush()
                if messages.empty():
                    self._spool.sync()
        except OSError as error:
            if error.errno not in ENVIRONMENT_ERRNOS:
                raise
            self._send({"environment": f"{error.strerror}: {error.filename or self._workspace.root}"})
        except DamagedShard as error:
            self._send({"environment": f"{error}; run again: what is damaged will be made anew"})
        finally:
            self._flush()
            self._in_flight.close()
            self._spool.seal()

    def _do(self, run_item: Callable[[Item], Output], task: Mapping[str, Any]) -> None:
        item_id, key = task["id"], task["key"]
        self._in_flight.mark(item_id, key)
        started = time.perf_counter()
        result: dict[str, Any] = {"id": item_id, "key": key}
        try:
            output = run_item(self._item(task))
            self._finish(item_id, key, output)
            result["outcome"] = "done"
        except Unavailable as error:
            result |= {"outcome": "blocked", "message": str(error)}
        except (OSError, DamagedShard) as error:
            if isinstance(error, DamagedShard) or error.errno in ENVIRONMENT_ERRNOS:
                raise
            result |= _failure(error)
        except Exception as error:  # noqa: BLE001 - an item may fail in any way, and fails alone
            result |= _failure(error)
        result["seconds"] = time.perf_counter() - started
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._in_flight.clear()
        self._results.append(result)
        self._spool.seal_if_full()
        if time.monotonic() - self._flushed_at >= FLUSH_EVERY_S:
            self._flush()

    def _finish(self, item_id: str, key: str, output: Output) -> None:
        record = Record(
            item_id,
            key,
            file_entries(output.files),
            output.frame,
            output.quality,
            output.rung,
            output.facts,
            self._recipe,
        )
        self._spool.append(record, output.files)

    def _item(self, task: Mapping[str, Any]) -> Item:
        records = {stage: from_line(line.encode()) for stage, line in task["records"].items()}
        if task.get("payload") is not None:
            self._payloads = {task["id"]: task["payload"]}

        def read(stage: str, _: str, name: str) -> bytes:
            shard, offset = task["places"][stage]
            return self._reader(stage).read_record((shard, offset), records[stage], name)

        work_dir = self._local / "work" / f"{task['id']}-{task['key'][:16]}"
        return Item(task["id"], task["key"], task["label"], records, read, work_dir)

    def _reader(self, stage: str) -> ItemReader:
        if stage not in self._readers:
            self._readers[stage] = ItemReader(self._workspace.shards_dir(stage))
        return self._readers[stage]

    def _context(self) -> Context:
        return Context(
            workspace=self._workspace.root,
            params=self._params,
            device=self._device,
            num_threads=self._num_threads,
            work_dir=self._local,
            upstreams=LazyUpstreams(self._workspace, self._stage.upstreams),
            progress=lambda text: self._send({"progress": text}),
            payload=lambda item_id: self._payloads.get(item_id),
        )

    def _flush(self) -> None:
        if self._results:
            self._send({"results": self._results})
            self._results = []
        self._flushed_at = time.monotonic()


class LazyUpstreams(Mapping[str, Upstream]):
    """Upstream collections, each loaded when it is first asked for. Their shards have been checked by the planner."""

    def __init__(self, workspace: Workspace, names: tuple[str, ...]) -> None:
        self._workspace = workspace
        self._names = names
        self._loaded: dict[str, Upstream] = {}

    def __getitem__(self, name: str) -> Upstream:
        if name not in self._names:
            raise KeyError(f"{name} is not among the stage's upstreams: {', '.join(self._names)}")
        if name not in self._loaded:
            self._loaded[name] = open_upstream(self._workspace, name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_upstream(workspace: Workspace, name: str) -> Upstream:
    """Read access to a published collection whose shards are indexed on this machine."""
    held = Held(workspace.local(name), workspace.shards_dir(name), None)
    held.refresh()
    reader = ItemReader(workspace.shards_dir(name))

    def read(record: Record, file_name: str) -> bytes:
        place = held.place(record.id, record.key)
        if place is None:
            raise DamagedShard(f"the bytes of item {record.id} of {name} are not on this machine")
        return reader.read_record(place, record, file_name)

    return Upstream(name, read_items(workspace.items_file(name)), read)


def resolve_device(setting: str, worker_index: int) -> str:
    """"auto" is this worker's own GPU where there is one (GPUs are dealt out in turn), else the CPU."""
    if setting != "auto":
        return setting
    if not Path("/dev/nvidiactl").exists() and not Path("/dev/kfd").exists():
        return "cpu"
    import torch

    return f"cuda:{worker_index % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def _failure(error: Exception) -> dict[str, Any]:
    message = f"{error}" if isinstance(error, (BadInput, EmptyOutput)) else f"{type(error).__name__}: {error}"
    detail = "".join(traceback.format_exception(error))[-4000:]
    return {"outcome": _class_of(error), "message": message.strip()[:500], "detail": detail}


def _class_of(error: Exception) -> str:
    if isinstance(error, BadInput):
        return "bad_input"
    if isinstance(error, EmptyOutput):
        return "empty_output"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
        return "oom_gpu"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "oom_host"
    return "error"


def _read_messages(stream: IO[bytes], messages: queue.SimpleQueue[Mapping[str, Any] | None]) -> None:
    """Keep the pipe empty, so that the supervisor never waits for a busy worker."""
    current: list[dict[str, Any]] = []
    for line in stream:
        message = json.loads(line)
        if message.get("stop"):
            for chunk in current:
                chunk["stopped"] = True
            messages.put(None)
            return
        current.append(message)
        messages.put(message)
    os._exit(1)  # the supervisor is gone: whoever comes next seals the spool


def _die_with_parent() -> None:
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def main() -> None:
    protocol = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        _die_with_parent()
    lock = threading.Lock()

    def send(message: Mapping[str, Any]) -> None:
        with lock:
            protocol.write(json.dumps(message).encode() + b"\n")

    hello = json.loads(sys.stdin.buffer.readline())["hello"]
    logging.basicConfig(level=hello["log_level"].upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    messages: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read_messages, args=(sys.stdin.buffer, messages), daemon=True).start()
    Worker(hello, send).run(messages)


if __name__ == "__main__":
    main()

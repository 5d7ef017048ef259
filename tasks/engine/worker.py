"""The worker process, `python -P -m tasks.engine.worker`: the supervisor starts it and tells it over standard input.

Protocol 2, one JSON object a line. To the worker: {"hello": ...} once, then {"chunk": [item, ...]}, {"give_back":
true} and {"stop": true}. From it: {"results": [...]}, {"given_back": [id, ...]}, {"progress": text} and, before it
ends, {"unavailable": text}, {"environment": text} or {"damaged": path}.

The protocol has descriptors of its own: whatever libraries print goes to the worker's log, and whatever they read is
empty.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import resource
import shutil
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from models.child import begin
from models.errors import (
    MACHINE_ERRNOS,
    BadInput,
    BrokenMachine,
    EmptyOutput,
    ItemFailed,
    Unavailable,
    failure_class,
    poisons,
)
from tasks.collections.files import explain
from tasks.collections.index import DamagedShard, Finished, ItemReader
from tasks.collections.inflight import InFlight
from tasks.collections.records import Record, from_line, read_items
from tasks.collections.spool import Spool
from tasks.collections.tarball import encode_item, file_entries
from tasks.engine.stage import Context, Item, Output, Stage, Upstream, load_class
from tasks.params import Params
from tasks.workspace import Workspace

PROTOCOL = 2
FLUSH_EVERY_S = 0.2
FLUSH_EVERY_RESULTS = 64

Send = Callable[[Mapping[str, Any]], None]


class Inbox:
    """Tasks that wait in a worker. The reader thread fills it and answers for it, even while an item is computed."""

    def __init__(self) -> None:
        self._tasks: deque[Mapping[str, Any]] = deque()
        self._stopped = False
        self._changed = threading.Condition()

    def put(self, tasks: list[Mapping[str, Any]]) -> None:
        with self._changed:
            self._tasks.extend(tasks)
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def give_back(self) -> list[str]:
        """Ids of the later half of what waits (rounded up), which is forgotten here."""
        with self._changed:
            num = (len(self._tasks) + 1) // 2
            return [self._tasks.pop()["id"] for _ in range(num)][::-1]

    def take(self, when_idle: Callable[[], None]) -> Mapping[str, Any] | None:
        """The next task, None when the worker is to stop. `when_idle` is called before there is nothing to do."""
        with self._changed:
            if not self._tasks and not self._stopped:
                when_idle()
                self._changed.wait_for(lambda: self._tasks or self._stopped)
            return None if self._stopped else self._tasks.popleft()


class Reporter:
    """Results on their way to the supervisor, several to a message."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._results: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()

    def add(self, result: Mapping[str, Any]) -> None:
        with self._lock:
            self._results.append(result)
            full = len(self._results) >= FLUSH_EVERY_RESULTS
        if full:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            results, self._results = self._results, []
        if results:
            self._send({"results": results})


class Worker:
    """One stage, one process, one spool."""

    def __init__(self, hello: Mapping[str, Any], inbox: Inbox, reporter: Reporter, send: Send) -> None:
        if hello["protocol"] != PROTOCOL:
            raise ValueError(f"the supervisor speaks protocol {hello['protocol']}, this worker {PROTOCOL}")
        self._workspace = Workspace(Path(hello["workspace"]), hello["trial"])
        self._stage: Stage = load_class(hello["stage"])()
        self._recipe: str = hello["recipe"]
        self._params = Params(hello["params"], [self._stage])
        self._inbox, self._reporter, self._send = inbox, reporter, send
        self._device = resolve_device(hello["device"], hello["worker_index"])
        self._num_threads: int = hello["num_threads"]
        self._local = self._workspace.local(self._stage.name)
        self._in_flight = InFlight(self._local)
        self._spool = Spool(self._local, self._workspace.shards_dir(self._stage.name))
        self._readers: dict[str, ItemReader] = {}
        self._payload: tuple[str, Any] = ("", None)
        self._closing: list[Callable[[], None]] = []
        self._spent = False

    def run(self) -> None:
        """Handle tasks until told to stop, then seal the spool. Whoever finds the spool of a dead worker seals it."""
        try:
            run_item = self._stage.start(self._context())
        except Unavailable as error:
            self._send({"unavailable": str(error)})
            return
        gc.freeze()  # the libraries' objects are not walked again between items
        threading.Thread(target=self._flush_regularly, daemon=True).start()
        try:
            while not self._spent and (task := self._inbox.take(self._flush)) is not None:
                self._do(run_item, task)
            self._reporter.flush()
            self._spool.seal()
        except OSError as error:
            self._reporter.flush()
            self._send({"environment": explain(error, self._local)})
        except DamagedShard as error:
            self._reporter.flush()
            self._send({"damaged": str(error.path)})
            self._spool.seal()
        except BrokenMachine as error:
            self._reporter.flush()
            self._send({"environment": str(error)})
            self._spool.seal()
        finally:
            for close in self._closing:
                close()
        self._in_flight.close()

    def _flush(self) -> None:
        self._reporter.flush()
        self._spool.sync()

    def _flush_regularly(self) -> None:
        """Results are sent and finished items synced while a long item is at work, too."""
        while True:
            time.sleep(FLUSH_EVERY_S)
            self._reporter.flush()
            self._spool.sync_if_due()

    def _do(self, run_item: Callable[[Item], Output], task: Mapping[str, Any]) -> None:
        item_id, key = task["id"], task["key"]
        self._in_flight.mark(item_id, key)
        started = time.perf_counter()
        item = self._item(task)
        segment, ending = self._compute(run_item, item)
        if segment is not None:
            self._spool.append(*segment)
            self._forget_work(item.work_dir)
        self._in_flight.clear()
        self._reporter.add(
            {
                "id": item_id,
                "seconds": time.perf_counter() - started,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                **ending,
            }
        )
        self._spool.seal_if_full()

    def _compute(
        self, run_item: Callable[[Item], Output], item: Item
    ) -> tuple[tuple[bytes, bytes] | None, Mapping[str, Any]]:
        """The bytes that finish the item, None for a failure; and how it ended."""
        try:
            output = run_item(item)
            ending = {**_ending("done"), "figures": output.measured}
            return encode_item(self._record(item, output), output.files), ending
        except Unavailable as error:
            return None, _ending("blocked", str(error))
        except (DamagedShard, BrokenMachine):
            raise
        except ItemFailed as error:  # in a process of its own, so that this one is not touched
            told = _ending(error.failure_class, str(error)[:500], error.detail[-4000:])
            return None, {**told, "exit_code": error.exit_code, "figures": error.figures}
        except (Exception, SystemExit) as error:  # an item may fail in any way, and fails alone
            if isinstance(error, OSError) and error.errno in MACHINE_ERRNOS:
                raise
            outcome = failure_class(error)
            if outcome == "environment":
                raise BrokenMachine(f"{type(error).__name__}: {error}") from error
            self._spent = outcome in ("oom_gpu", "oom_suspected") or (outcome == "error" and poisons(error))
            message = f"{error}" if isinstance(error, (BadInput, EmptyOutput)) else f"{type(error).__name__}: {error}"
            detail = "".join(traceback.format_exception(error))[-4000:]
            return None, _ending(outcome, message.strip()[:500], detail)

    def _record(self, item: Item, output: Output) -> Record:
        _refuse_nan(output.quality, "quality")
        _refuse_nan(output.facts, "facts")
        entries = file_entries(output.files)
        return Record(item.id, item.key, entries, output.frame, output.quality, output.rung, output.facts, self._recipe)

    def _forget_work(self, work_dir: Path) -> None:
        """Progress of an item that is finished for good."""
        if work_dir.is_dir():
            self._spool.sync()
            shutil.rmtree(work_dir)

    def _item(self, task: Mapping[str, Any]) -> Item:
        records = {stage: from_line(line.encode()) for stage, line in task["records"].items()}
        self._payload = (task["id"], task["payload"])

        def read(stage: str, _: str, name: str) -> bytes:
            shard, offset = task["locations"][stage]
            return self._reader(stage).read((shard, offset), records[stage], name)

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
            trial=self._workspace.trial,
            payload=lambda item_id: self._payload[1] if item_id == self._payload[0] else None,
            closing=self._closing.append,
            published=open_upstream(self._workspace, self._stage.name) if self._stage.product else None,
        )


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
    finished = Finished(workspace.local(name), workspace.shards_dir(name), None)
    finished.refresh()
    reader = ItemReader(workspace.shards_dir(name))

    def read(record: Record, file_name: str) -> bytes:
        location = finished.location(record.id, record.key)
        if location is None:
            raise FileNotFoundError(f"the bytes of item {record.id} of {name} are not here; run `dvc checkout`")
        return reader.read(location, record, file_name)

    return Upstream(name, read_items(workspace.items_file(name)), read)


def resolve_device(setting: str, worker_index: int) -> str:
    """ "auto" is this worker's own GPU where there is one (GPUs are dealt out in turn), else the CPU."""
    if setting != "auto":
        return setting
    if not Path("/dev/nvidiactl").exists() and not Path("/dev/kfd").exists():
        return "cpu"
    import torch

    return f"cuda:{worker_index % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def _ending(outcome: str, message: str = "", detail: str = "") -> dict[str, str]:
    return {"outcome": outcome, "message": message, "detail": detail}


def _refuse_nan(value: Any, where: str) -> None:
    """Raises EmptyOutput naming the figure that is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        raise EmptyOutput(f"{where} is {value}")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_nan(inner, f"{where}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            _refuse_nan(inner, f"{where}[{index}]")


def _read_messages(stream: IO[bytes], inbox: Inbox, reporter: Reporter, send: Send) -> None:
    """Keep the pipe empty, so that the supervisor never waits for a busy worker."""
    for line in stream:
        if not line.endswith(b"\n"):
            break  # the supervisor died while it wrote
        message = json.loads(line)
        if "chunk" in message:
            inbox.put(message["chunk"])
        elif "give_back" in message:
            returned = inbox.give_back()
            reporter.flush()
            send({"given_back": returned})
        elif "stop" in message:
            inbox.stop()
    os._exit(1)  # the supervisor is gone: whoever comes next seals the spool


def main() -> None:
    reading, writing = begin()
    lock = threading.Lock()

    def send(message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with lock:
            writing.write(data)
            writing.flush()

    hello = json.loads(reading.readline())["hello"]
    logging.basicConfig(level=hello["log_level"].upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    inbox, reporter = Inbox(), Reporter(send)
    threading.Thread(target=_read_messages, args=(reading, inbox, reporter, send), daemon=True).start()
    Worker(hello, inbox, reporter, send).run()
    logging.shutdown()
    sys.stdout.flush()  # what libraries printed belongs to the log
    os._exit(0)  # nothing needs what libraries do at the end of a process, which takes up to a second


if __name__ == "__main__":
    main()

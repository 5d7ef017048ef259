"""A stage whose items do as they are told: `inbox/NAME.json` holds what NAME does.

`python -P -m tests.toy WORKSPACE [--strict]` runs it; a script is

    {"acts": ["kill", "ok"], "seconds": 0.1, "bytes": 1000, "files": 1}

The first attempt takes the first act, the last act repeats. Every time an item's function comes to its end, which is
before its record is written, `ID KEY` is appended to computed.log: evidence that owes nothing to the ledger.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from models.errors import BadInput, EmptyOutput, Unavailable
from models.params import Block
from tasks.collections.holder import HeldByAnother
from tasks.engine.outcome import FAILED, HELD, StageFailed
from tasks.engine.runner import run_stage
from tasks.engine.stage import Context, Item, Output, Stage, Wanted
from tasks.params import Params
from tasks.workspace import Workspace


class ToyParams(Block):
    salt: str = ""
    """Changes every key and every output."""
    start: str = "ok"
    """What a worker's start does: ok, unavailable, raise, hang."""
    address_space_mb: int = 0
    """RLIMIT_AS of a worker beyond what it has when it starts; 0 sets none."""


class Toy(Stage):
    name = "toy"
    Params = ToyParams

    def key_params(self, params: Any) -> Any:
        return {"salt": params.stage("toy").salt}

    def wanted(self, context: Context) -> Iterator[Wanted]:
        for path in sorted((context.workspace / "inbox").glob("*.json")):
            script = json.loads(path.read_bytes())
            inputs = (("script", context.digest(path)),)
            yield Wanted(item_id(path.stem), path.stem, inputs, skip=script.get("skip"), payload=script)

    def start(self, context: Context) -> Callable[[Item], Output]:
        params: ToyParams = context.params.stage("toy")
        if params.start != "ok":
            act(params.start)
        if params.address_space_mb:
            limit = _address_space() + (params.address_space_mb << 20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        def run(item: Item) -> Output:
            script = context.payload(item.id)
            acts = script.get("acts", ["ok"])
            time.sleep(script.get("seconds", 0))
            act(acts[min(_attempt(context.workspace, item), len(acts) - 1)])
            quality = {"score": float("nan")} if acts[-1] == "nan" else {"score": 1.0}
            output = Output(expected_files(item.id, script, params.salt), quality=quality, facts={"label": item.label})
            _append(context.workspace / "computed.log", f"{item.id} {item.key}\n")
            return output

        return run


class EchoParams(Block):
    pass


class Echo(Stage):
    """A stage behind the toy, which makes the same files again."""

    name = "echo"
    upstreams = ("toy",)
    Params = EchoParams

    def start(self, context: Context) -> Callable[[Item], Output]:
        return lambda item: Output({name: item.read("toy", name) for name in item.names("toy")})


def act(name: str) -> None:
    """Misbehave as told."""
    if name not in ("ok", "nan"):
        ACTS[name]()


def _raise(error: BaseException) -> Callable[[], None]:
    def misbehave() -> None:
        raise error

    return misbehave


def _print_garbage() -> None:
    os.write(1, b'{"results": [{"id": "x"}]}\nnot json \xff\n')
    subprocess.run(["cat"], check=True, timeout=10)  # reads standard input, which must not be the protocol's


def _leave_a_child() -> None:
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def _signal_the_run(number: signal.Signals) -> Callable[[], None]:
    def misbehave() -> None:
        os.kill(os.getppid(), number)
        time.sleep(60)

    return misbehave


ACTS: Mapping[str, Callable[[], object]] = {
    "raise": _raise(RuntimeError("told to raise")),
    "bad_input": _raise(BadInput("told to be bad")),
    "empty": _raise(EmptyOutput("told to be empty")),
    "unavailable": _raise(Unavailable("told to be unavailable; install nothing")),
    "gpu_memory": _raise(RuntimeError("CUDA error: out of memory")),
    "interrupt": _raise(KeyboardInterrupt()),
    "unreadable": lambda: Path("/proc/1/mem").read_bytes(),
    "exit": lambda: sys.exit(0),
    "os_exit": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill_the_run": _signal_the_run(signal.SIGKILL),
    "stop_the_run": _signal_the_run(signal.SIGTERM),
    "segfault": lambda: ctypes.string_at(0),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "hang": lambda: time.sleep(3600),
    "memory": lambda: bytearray(1 << 40),
    "print": _print_garbage,
    "say": lambda: print("as libraries do"),
    "leave_a_child": _leave_a_child,
}


def expected_files(item: str, script: Mapping[str, Any], salt: str) -> dict[str, bytes]:
    """What the toy makes of an item."""
    block = hashlib.sha256(f"{item} {salt}".encode()).digest()
    data = (block * (script.get("bytes", 1000) // len(block) + 1))[: script.get("bytes", 1000)]
    return {f"out{index}.bin": data for index in range(script.get("files", 1))}


def item_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def fill(workspace: Workspace, scripts: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the scripts of items by name."""
    for name, script in scripts.items():
        (workspace.root / "inbox" / f"{name}.json").write_text(json.dumps(script))


def plain(num_items: int, **script: Any) -> dict[str, dict[str, Any]]:
    """Scripts of items that all do the same."""
    return {f"item{index:05d}": script for index in range(num_items)}


def computed(workspace: Workspace) -> list[tuple[str, str]]:
    """(id, key) of every computation that came to its end, oldest first."""
    path = workspace.root / "computed.log"
    rows = [line.split() for line in path.read_text().splitlines()] if path.is_file() else []
    return [(item, key) for item, key in rows]


def _attempt(workspace: Path, item: Item) -> int:
    """How often this (id, key) was tried before."""
    folder = workspace / "tries"
    folder.mkdir(exist_ok=True)
    path = folder / f"{item.id}-{item.key[:16]}"
    _append(path, ".")
    return path.stat().st_size - 1


def _append(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def load_params(workspace: Workspace) -> Params:
    return Params(yaml.safe_load(workspace.params_file.read_text()) or {}, [Toy()])


def main() -> int:
    from tests.toy import Toy  # as workers find it, not as __main__

    workspace = Workspace(Path(sys.argv[1]).resolve())
    try:
        outcome = run_stage(Toy(), workspace, load_params(workspace), {}, strict="--strict" in sys.argv)
    except HeldByAnother as error:
        print(error, file=sys.stderr)
        return HELD
    except StageFailed as error:
        print(error, file=sys.stderr)
        return FAILED
    print(json.dumps(asdict(outcome)))
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())

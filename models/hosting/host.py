"""The program that runs a teacher: `PYTHON -P .../models/hosting/host.py`, in the teacher's own Python environment.

It answers on standard output as `messages` describes; whatever libraries print goes to its log (standard error).
`keeper` starts it, and ends whatever it leaves behind.

`PYTHON -P host.py --replay FOLDER` runs one saved request in the foreground: a reproducer for an item that killed its
host, with nothing of lostwax around it.

Of lostwax's own packages only what needs Python and NumPy alone is imported here.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import importlib.util
import os
import resource
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

MODELS = Path(__file__).resolve().parent.parent
BEAT_EVERY_S = 1.0


def find_models() -> None:
    """Make `models` importable without its installation: this interpreter may be another environment's."""
    if "models" not in sys.modules:
        package = types.ModuleType("models")
        package.__path__ = [str(MODELS)]
        sys.modules["models"] = package


find_models()

from models.child import begin  # noqa: E402
from models.errors import Unavailable, failure_class, poisons  # noqa: E402
from models.hosting.messages import PROTOCOL, Arrays, read_message, sendable, write_message  # noqa: E402

Generate = Callable[[Mapping[str, Any], Arrays], tuple[Mapping[str, Any], Arrays]]
"""(request, arrays) -> (figures, arrays of the output). What a runtime's `load(settings, device)` returns."""


class Host:
    """One teacher, one item at a time."""

    def __init__(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        self._reading = reading
        self._writing = writing
        self._lock = threading.Lock()
        self._sent_at = time.monotonic()
        self._pid = os.getpid()

    def run(self) -> None:
        """Load what the first message names, then answer requests until the stream ends."""
        threading.Thread(target=self._beat, daemon=True).start()
        generate: Generate | None = None
        while (message := read_message(self._reading)) is not None:
            head, arrays = message
            request = {"request": head["request"]}
            if "load" in head:
                try:
                    generate = load(head["load"])
                except Exception as error:  # noqa: BLE001  what cannot be loaded may raise anything
                    self._send({**request, "unavailable": explain_load(error)})
                    return
                self._send({**request, "ready": introduction()})
            elif "generate" in head:
                assert generate is not None, "generate before load"
                answered, result = answer(generate, head["generate"], arrays)
                self._send({**request, **answered}, result)

    def _send(self, head: Mapping[str, Any], arrays: Arrays | None = None) -> None:
        if os.getpid() != self._pid:
            os._exit(1)  # a child that the teacher forked and that came back here: the answer is its parent's to give
        with self._lock:
            write_message(self._writing, head, arrays)
            self._sent_at = time.monotonic()

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_EVERY_S / 2)
            if time.monotonic() - self._sent_at >= BEAT_EVERY_S:
                self._send({"beat": {}})


def load(request: Mapping[str, Any]) -> Generate:
    """The runtime: a module of `models.hosting.runtimes`, or the path of a file."""
    runtime: str = request["runtime"]
    if runtime.endswith(".py"):
        spec = importlib.util.spec_from_file_location("runtime", runtime)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(f"models.hosting.runtimes.{runtime}")
    generate: Generate = module.load(request["settings"], request["device"])
    return generate


def answer(generate: Generate, request: Mapping[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """The message that answers a request."""
    reset_gpu_peak()
    started = time.perf_counter()
    failed: dict[str, Any] | None = None
    result: Arrays = {}
    figures: Mapping[str, Any] = {}
    try:
        figures, result = sendable(*generate(request, arrays))
    except (Exception, SystemExit) as error:  # noqa: BLE001  it fails alone, however it fails
        kind = failure_class(error)
        plain = kind in ("bad_input", "empty_output")
        failed = {
            "class": "teacher_error" if kind == "error" else kind,
            "message": (f"{error}" if plain else f"{type(error).__name__}: {error}").strip()[:500],
            "detail": "".join(traceback.format_exception(error))[-4000:],
            "poisoned": poisons(error),
        }
    # Outside of the handler: a traceback keeps the tensors of its frames alive.
    measured = {"seconds": time.perf_counter() - started, "peak_rss_mb": peak_rss_mb(), **gpu_figures()}
    if failed is not None:
        return {"failed": {**failed, "figures": measured}}, {}
    return {"done": {**figures, **measured}}, result


def explain_load(error: BaseException) -> str:
    if isinstance(error, Unavailable):
        return str(error)
    if isinstance(error, ImportError):
        return f"{error} in {sys.executable}; `lostwax teacher setup NAME` makes the teacher's environment"
    return f"the teacher does not load: {type(error).__name__}: {error}"


def peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def introduction() -> dict[str, Any]:
    return {"protocol": PROTOCOL, "pid": os.getpid(), "python": sys.version.split()[0], **gpu_figures()}


def reset_gpu_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        try:
            torch.cuda.reset_peak_memory_stats()
        except RuntimeError:
            return  # a GPU that is out of order says so when it is used


def gpu_figures() -> dict[str, Any]:
    """Name of this process's GPU and the peak of torch's memory on it, where torch uses one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    try:
        return {
            "gpu": torch.cuda.get_device_name(),
            "gpu_total_mb": torch.cuda.get_device_properties(0).total_memory / 2**20,
            "peak_vram_mb": torch.cuda.max_memory_reserved() / 2**20,
            "held_vram_mb": torch.cuda.memory_reserved() / 2**20,
        }
    except RuntimeError:
        return {}


def replay(folder: Path) -> int:
    """Run a saved request and say how it ends."""
    faulthandler.enable()
    with (folder / "request.bin").open("rb") as file:
        loading, request = read_message(file), read_message(file)
    assert loading is not None
    assert request is not None
    head, arrays = request
    message, result = answer(load(loading[0]["load"]), head["generate"], arrays)
    failed = message.get("failed")
    sys.stderr.write(failed["detail"] if failed else f"done: {message['done']}\n")
    for name, array in result.items():
        sys.stderr.write(f"{name}: {array.dtype} {array.shape}\n")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a teacher for lostwax.")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="run one saved request in the foreground")
    arguments = parser.parse_args()
    if arguments.replay:
        return replay(arguments.replay)
    Host(*begin()).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the scripted teacher's host runs. Acts: ok, and those of ACTS."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np

from models.errors import BadInput, Unavailable

LEAK_MB = 50
_leaked = []


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


def load(settings, device):
    folder = Path(settings["script"])
    if (folder / "missing").exists():
        raise Unavailable((folder / "missing").read_text())
    started = time.perf_counter()
    append(folder / "loads.log", f"{os.getpid()}\n")
    acts = json.loads((folder / "acts.json").read_text()) if (folder / "acts.json").exists() else {}

    def generate(request, arrays):
        started = time.perf_counter()
        item, settings = request["id"], request["settings"]
        resolution = settings["resolution"]
        need_mb = resolution * float((arrays["rgba_VHW4"][..., 3] > 127).mean())
        if settings["card_mb"] and need_mb > settings["card_mb"]:
            append(folder / "ooms.log", f"{item} {resolution}\n")
            raise OutOfMemoryError(f"CUDA out of memory: {need_mb:.0f} of {settings['card_mb']:.0f} MB")
        todo = acts.get(item, ["ok"])
        tries = folder / "tries" / item
        tries.parent.mkdir(exist_ok=True)
        append(tries, ".")
        sleep_until(started + settings["item_s"])
        act = todo[min(tries.stat().st_size, len(todo)) - 1]
        vertices = ACTS[act](folder) if act != "ok" else None
        if vertices is None:
            vertices = 0.5 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
            append(folder / "computed.log", f"{item}\n")
        faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)[: len(vertices)]
        figures = {"resolution": resolution, "peak_vram_mb": need_mb, "gpu": "simulated"}
        return figures, {"vertices_N3": vertices, "faces_F3": faces}

    sleep_until(started + settings["load_s"])
    return generate


def sleep_until(moment):
    time.sleep(max(0.0, moment - time.perf_counter()))


def append(path, text):
    with path.open("a") as file:
        file.write(text)


def _raise(error):
    def act(folder):
        raise error

    return act


def _leak(folder):
    _leaked.append(np.ones(LEAK_MB << 17))


def _lose_the_gpu(folder):
    (folder / "missing").write_text("no CUDA-capable device is detected: check the card, then run again")
    raise RuntimeError("CUDA error: GPU is lost")


def _say_nothing(folder):
    os.kill(os.getpid(), signal.SIGSTOP)


def _speak_out_of_turn(folder):
    os.write(1, b"a progress bar, which must not be taken for a message\n")


ACTS = {
    "oom": _raise(OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    "cublas": _raise(RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`")),
    "host_memory": _raise(MemoryError("Unable to allocate 1 TiB")),
    "error": _raise(KeyError("an unknown view")),
    "bad": _raise(BadInput("nothing to see")),
    "kill": lambda folder: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda folder: os.kill(os.getpid(), signal.SIGSEGV),
    "exit": lambda folder: os._exit(3),
    "hang": lambda folder: time.sleep(3600),
    "silence": _say_nothing,
    "empty": lambda folder: np.zeros((0, 3), np.float32),
    "nan": lambda folder: np.full((4, 3), np.nan, np.float32),
    "leak": _leak,
    "lose_the_gpu": _lose_the_gpu,
    "print": _speak_out_of_turn,
}

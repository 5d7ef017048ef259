"""What the scripted teacher's host runs. Acts: ok, and those of ACTS."""

import collections
import ctypes
import fcntl
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from models.errors import BadInput, Unavailable
from models.hosting.messages import write_message

LEAK_MB = 50
_leaked = []
TETRAHEDRON = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
FACES = ((0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 3, 2))
calls = []
"""Items that this process was given."""


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
        calls.append(item)
        made = (ACTS[act](folder) if act != "ok" else None) or {}
        if "vertices_N3" not in made:
            append(folder / "computed.log", f"{item}\n")
        vertices_N3 = made.get("vertices_N3", 0.5 * np.array(TETRAHEDRON, np.float32))
        faces_F3 = np.array(FACES, np.int32)[: len(vertices_N3)]
        figures = {
            "item": item,
            "resolution": resolution,
            "peak_vram_mb": need_mb,
            "gpu": "simulated",
            **made.pop("figures", {}),
        }
        return figures, {"vertices_N3": vertices_N3, "faces_F3": faces_F3, **made}

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


def _fork(folder):
    """The child goes on as its parent does: it too comes to an answer, another one."""
    if os.fork() == 0:
        append(folder / "children.log", f"{os.getpid()}\n")
        return {"vertices_N3": 0.4 * np.array(TETRAHEDRON, np.float32), "figures": {"item": "of a child"}}
    return None


def _protocol():
    """The pipe to the client, which a teacher has no business with."""
    for path in Path("/proc/self/fd").iterdir():
        number = int(path.name)
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(number).st_mode)
            if number > 2 and is_pipe and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
                return os.fdopen(number, "wb", closefd=False)
        except OSError:
            continue
    raise AssertionError("there is no pipe to the client")


def _answer(request):
    arrays = {"vertices_N3": np.array(TETRAHEDRON, np.float32), "faces_F3": np.array(FACES, np.int32)}
    write_message(_protocol(), {"done": {"resolution": -1}, "request": request}, arrays)


def _answer_for_another(folder):
    _answer(len(calls))  # the load was the first request


def _answer_otherwise(folder):
    write_message(_protocol(), {"request": 1 + len(calls), "finished": {}})


def _answer_twice(folder):
    """The second answer comes when this item has been answered, as a forked child's would."""
    number = 1 + len(calls)
    threading.Timer(0.2, _answer, [number]).start()


def _send_garbage(folder):
    pipe = _protocol()
    pipe.write(b"loading: 100%\n")
    pipe.flush()


def _start_children(folder):
    """One child that holds every pipe, one in a session of its own."""
    if os.fork() == 0:
        append(folder / "children.log", f"{os.getpid()}\n")
        time.sleep(30)
        (folder / "survived").touch()
        os._exit(0)
    apart = subprocess.Popen(["sleep", "30"], start_new_session=True)
    append(folder / "children.log", f"{apart.pid}\n")
    while len((folder / "children.log").read_text().splitlines()) < 2:
        time.sleep(0.005)


def _leave_children(folder):
    _start_children(folder)
    os.kill(os.getpid(), signal.SIGKILL)


def _hang_with_children(folder):
    _start_children(folder)
    time.sleep(60)


def _die_later(folder):
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGSEGV]).start()


def _fill_the_disk(folder):
    Path("/dev/full").write_text("no byte of this finds room")


def _work_without_a_beat(folder):
    """One call of C code that holds the interpreter's lock for some seconds."""
    started = time.perf_counter()
    collections.deque(itertools.repeat(None, 10_000_000), maxlen=0)
    rate = 10_000_000 / (time.perf_counter() - started)
    collections.deque(itertools.repeat(None, int(3.5 * rate)), maxlen=0)


def _sleep_with_the_lock(folder):
    ctypes.PyDLL(None).sleep(60)


def _chatter(folder):
    """64 MB on standard error, and something to remember it by."""
    for _ in range(64):
        sys.stderr.write("x" * (1 << 20))
    sys.stderr.write("the last words of this process\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def _odd_types(folder):
    """Types that other libraries hand out, read-only and not contiguous."""
    faces_F3 = np.asfortranarray(np.array(FACES, np.uint32))
    faces_F3.flags.writeable = False
    figures = {"resolution": np.int64(7), "peak_vram_mb": np.float32(1.5), "closed": np.bool_(True), "box": np.ones(3)}
    return {"faces_F3": faces_F3, "figures": figures}


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
    "empty": lambda folder: {"vertices_N3": np.zeros((0, 3), np.float32)},
    "nan": lambda folder: {"vertices_N3": np.full((4, 3), np.nan, np.float32)},
    "leak": _leak,
    "lose_the_gpu": _lose_the_gpu,
    "print": _speak_out_of_turn,
    "fork": _fork,
    "answer_for_another": _answer_for_another,
    "answer_otherwise": _answer_otherwise,
    "answer_twice": _answer_twice,
    "garbage": _send_garbage,
    "leave_children": _leave_children,
    "hang_with_children": _hang_with_children,
    "die_later": _die_later,
    "fill_the_disk": _fill_the_disk,
    "work_without_a_beat": _work_without_a_beat,
    "sleep_with_the_lock": _sleep_with_the_lock,
    "chatter": _chatter,
    "odd_types": _odd_types,
    "objects": lambda folder: {"faces_F3": np.array([object()] * 4)},
    "float_colours": lambda folder: {"colours_N4": np.tile(np.array([0, 0.5, 1], np.float32), (4, 1))},
    "nan_colours": lambda folder: {"colours_N4": np.full((4, 3), np.nan, np.float32)},
}

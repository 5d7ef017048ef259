"""One student trained by several processes: of this machine by itself, of several by torchrun (docs/several-gpus.md).

    torchrun --nnodes 2 ... -m tasks.stages.train.processes REQUEST        # on each machine, over a shared workspace

A request says all that a process needs to make the training again; it lies beside the checkpoints. What comes of it is
written beside it by the first process.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.machine import num_gpus
from models.metric import Metric
from tasks.engine.stage import Context, Item
from tasks.params import Params

if TYPE_CHECKING:
    from models.training.engine import TrainingResult

REQUEST, STATE, FIGURES, PROGRESS = "request.json", "result.safetensors", "result.json", "progress.txt"
LOOKS_EVERY_S = 1.0


def num_processes(params: Params, device: str) -> int:
    """run.train_processes; where that is 0, one for each GPU."""
    return params.run.train_processes or (num_gpus() if device.startswith("cuda") else 1) or 1


def write_request(item: Item, context: Context) -> Path:
    """Beside the checkpoints of an item's training; returns its path."""
    item.work_dir.mkdir(parents=True, exist_ok=True)
    path = item.work_dir / REQUEST
    content = {
        "student": item.id,
        "key": item.key,
        "workspace": str(context.workspace),
        "trial": context.trial,
        "params": context.params.raw,
        "device": context.device,
        "payload": context.payload(item.id),
        "work_dir": str(item.work_dir),
        "stage_dir": str(context.work_dir),
    }
    path.write_text(json.dumps(content))
    return path


def fit_in_processes(request: Path, count: int, context: Context) -> TrainingResult:
    """The training of a request by `count` processes; they go on from its newest checkpoint."""
    from models.training.launch import run_in_processes

    with _told(request.with_name(PROGRESS), context):
        run_in_processes(count, fit_one, str(request))
    return _read_result(request.parent)


def fit_one(request: str) -> None:
    """What each process does."""
    from models.training.distributed import join, leave
    from tasks.stages.train.work import fit

    asked = json.loads(Path(request).read_text())
    is_cuda = asked["device"].startswith("cuda")
    world = join("nccl" if is_cuda else "gloo")
    item, context = _remade(asked, f"cuda:{world.local_rank}" if is_cuda else asked["device"])
    result = fit(item, context, world)
    if world.rank == 0:
        _write_result(item.work_dir, result)
    leave(world)


def _remade(asked: dict[str, Any], device: str) -> tuple[Item, Context]:
    """The item and the context that a worker was given."""
    from tasks.engine.worker import LazyUpstreams, open_upstream
    from tasks.stages.train import Train
    from tasks.workspace import Workspace

    workspace, work_dir = Workspace(Path(asked["workspace"]), asked["trial"]), Path(asked["work_dir"])

    def unread(stage: str, item_id: str, name: str) -> bytes:
        raise AssertionError("a product reads collections")

    def tell(text: str) -> None:
        (work_dir / PROGRESS).write_text(text)

    context = Context(
        workspace=workspace.root,
        params=Params(asked["params"]),
        device=device,
        num_threads=1,
        work_dir=Path(asked["stage_dir"]),
        upstreams=LazyUpstreams(workspace, Train.upstreams),
        progress=tell,
        trial=workspace.trial,
        payload=lambda _: asked["payload"],
        published=open_upstream(workspace, Train.name),
    )
    return Item(asked["student"], asked["key"], asked["student"], {}, unread, work_dir), context


def _write_result(folder: Path, result: TrainingResult) -> None:
    from safetensors.torch import save_file

    figures = asdict(replace(result, state={}))
    del figures["state"]
    save_file({name: tensor.contiguous() for name, tensor in result.state.items()}, folder / STATE)
    (folder / FIGURES).write_text(json.dumps(figures))


def _read_result(folder: Path) -> TrainingResult:
    from safetensors.torch import load_file

    from models.training.engine import TrainingResult

    figures = json.loads((folder / FIGURES).read_text())
    selected = figures.pop("selected")
    return TrainingResult(state=load_file(folder / STATE), selected=Metric(**selected) if selected else None, **figures)


@contextmanager
def _told(path: Path, context: Context) -> Iterator[None]:
    """Passes on what the first process writes of its progress."""
    ended = threading.Event()

    def watch() -> None:
        said = ""
        while not ended.wait(LOOKS_EVERY_S):
            text = path.read_text() if path.is_file() else ""
            if text and text != said:
                context.progress(text)
                said = text

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fit_one(sys.argv[1])

"""A teacher whose work is done in a host: retried in a fresh process, then with less, when memory runs out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from models.errors import OOM_CLASSES, ItemFailed
from models.hosting.client import Client
from models.hosting.environments import READY
from models.hosting.ladder import Evidence, Ladder
from models.hosting.messages import Arrays
from models.hosting.process import Program
from models.machine import visible_gpu
from models.params import Block
from models.teachers import Site, TeacherOutput
from models.views import Views


class HostedParams(Block):
    """What the block of every hosted teacher holds. None of it can change what a teacher makes at full quality."""

    LOCAL: ClassVar[frozenset[str]] = frozenset({"python", "environment", "ladder"})

    python: str | None = None
    """Interpreter of the teacher's environment; by default the one of `lostwax teacher setup`, else lostwax's own."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables of its process."""
    ladder: list[dict[str, Any]] = Field(default_factory=list)
    """Settings to fall back to when memory runs out, in order: each entry lies over the block. Marked on the record."""


class HostedTeacher:
    """Talks to a host; see `models.teachers.Teacher`."""

    def __init__(
        self,
        name: str,
        params: HostedParams,
        site: Site,
        *,
        runtime: str,
        licence: str,
        read_answer: Callable[[Arrays, Mapping[str, Any]], TeacherOutput],
        choose_views: Callable[[Views], Views] = lambda views: views,
        local_settings: Mapping[str, Any] | None = None,
    ) -> None:
        """runtime: a module of models.hosting.runtimes, or a file. read_answer: (arrays, figures) -> what was made.

        choose_views: those that the teacher is given. local_settings: those that stay out of the key, for the runtime
        alone. Raises Unavailable when the teacher does not load.
        """
        self.licence = licence
        self._settings = params.model_dump(mode="json", exclude=set(params.LOCAL)) | dict(local_settings or {})
        self._rungs = [{}, *params.ladder]
        self._read_answer = read_answer
        self._choose_views = choose_views
        variables = {**_memory_settings(), **params.environment, **_one_gpu(site.device)}
        device = "cuda:0" if site.device.startswith("cuda") else site.device
        python = params.python or _environment_of(name, site.environments)
        program = Program(runtime, self._settings, device, python, variables)
        self._client = Client(program, site.limits, site.folder)
        self._client.start()
        self.gpu = str(self._client.ready.get("gpu", "cpu"))
        self._ladder = Ladder(len(self._rungs), site.evidence(self.gpu))

    def generate(self, views: Views, *, seed: int, name: str = "item", rungs: int | None = None) -> TeacherOutput:
        """What was made, its rung and what it cost.

        rungs: try no more than so many rungs from the top. Raises ItemFailed, BadInput, EmptyOutput, BrokenMachine.
        """
        chosen = self._choose_views(views)
        size = covered_share(chosen)
        last = min(rungs or len(self._rungs), len(self._rungs)) - 1
        rung = 0 if rungs else min(self._ladder.start(size), last)
        steps: list[dict[str, Any]] = []
        while True:
            fresh = self._client.fresh
            started = time.perf_counter()
            try:
                settings = self._settings | self._rungs[rung]
                figures, arrays = self._client.generate(name, chosen.names, chosen.rgba_VHW4, settings, seed)
            except ItemFailed as error:
                failed = error
            else:
                steps.append(_step(rung, "done", fresh, started, figures))
                self._ladder.add(Evidence(rung, size, fits=True))
                made = self._read_answer(arrays, figures)
                return replace(made, rung=rung, measured=self._measured(size, steps, figures))
            steps.append(_step(rung, failed.failure_class, fresh, started, failed.figures))
            if failed.failure_class not in OOM_CLASSES:
                raise self._with_steps(failed, size, steps)
            self._client.discard()
            if not fresh:
                continue  # what earlier items left behind may be at fault: the same again, alone
            self._ladder.add(Evidence(rung, size, fits=False))
            if rung == last:
                raise self._with_steps(failed, size, steps)
            rung += 1

    def close(self) -> None:
        self._client.close()

    def _measured(self, size: float, steps: list[dict[str, Any]], figures: Mapping[str, Any]) -> dict[str, Any]:
        kept = ("seconds", "peak_vram_mb", "peak_rss_mb", "host_peak_rss_mb")
        costs = {name: figures[name] for name in kept if figures.get(name) is not None}
        return {"gpu": self.gpu, "size": size, "rung": steps[-1]["rung"], "steps": steps, **costs}

    def _with_steps(self, failed: ItemFailed, size: float, steps: list[dict[str, Any]]) -> ItemFailed:
        rung = steps[-1]["rung"]
        text = str(failed)
        if rung:
            text = f"{text} (at rung {rung} of the ladder: {self._rungs[rung]})"
        figures = self._measured(size, steps, failed.figures) | {"settings": self._settings | self._rungs[rung]}
        return ItemFailed(failed.failure_class, text, failed.detail, failed.exit_code, figures)


def covered_share(views: Views) -> float:
    """Share of the images that the object covers, all views together: what its needs are guessed by."""
    return round(float((views.rgba_VHW4[..., 3] > 127).mean(axis=(1, 2)).sum()), 4)


def _step(rung: int, outcome: str, fresh: bool, started: float, figures: Mapping[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = {"rung": rung, "outcome": outcome, "fresh": fresh}
    step["seconds"] = round(time.perf_counter() - started, 3)
    if figures.get("peak_vram_mb") is not None:
        step["peak_vram_mb"] = round(float(figures["peak_vram_mb"]))
    return step


def _memory_settings() -> dict[str, str]:
    return {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}


def _one_gpu(device: str) -> dict[str, str]:
    """The host sees its own GPU and no other."""
    if not device.startswith("cuda"):
        return {}
    gpu = visible_gpu(int(device.partition(":")[2] or 0))
    return {"CUDA_VISIBLE_DEVICES": gpu, "HIP_VISIBLE_DEVICES": gpu}


def _environment_of(name: str, environments: Path) -> str:
    """The interpreter that `lostwax teacher setup` made for this teacher, else the one that runs this."""
    home = environments / name
    return str(home / "bin" / "python") if (home / READY).is_file() else sys.executable

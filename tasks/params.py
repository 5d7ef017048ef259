"""params.yaml: the only knobs. Its owner validates every block; `run:` never enters a key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from models import plugins
from models.params import Block
from tasks.engine.stage import Stage
from tasks.order import ORDER, load_stage

B = TypeVar("B", bound=Block)
PLUGIN_FAMILIES = tuple(family for family in plugins.FAMILIES if family != "sources")


class Attempts(Block):
    """How often an item is tried, by class of failure, before it is exhausted."""

    bad_input: int = 1
    empty_output: int = 1
    error: int = 2
    teacher_error: int = 2
    killed: int = 2
    timeout: int = 2
    oom_host: int = 2
    oom_gpu: int = 2
    """With a hosted teacher: times that the whole ladder was gone down."""
    oom_suspected: int = 2
    interrupted: int = 10
    """In flight when the whole run died. The run's end says little about the item, so the budget is wide."""


class TeacherLimits(Block):
    """When the process of a hosted teacher is replaced or killed; 0 means never."""

    restart_after_items: int = Field(0, ge=0)
    leak_mb: float = Field(2000, ge=0)
    """Replaced when it holds so much more host or GPU memory than after its first item."""
    memory_limit_mb: float = Field(0, ge=0)
    """Killed above so much host memory; the item is charged with oom_host."""
    silence_s: float = Field(120, ge=0)
    """Killed when it gave no sign of life for so long; the item is charged with timeout."""


class RunParams(Block):
    """What cannot change a result."""

    workers: int = Field(0, ge=0)
    """Worker processes a stage; 0 takes one for each core."""
    chunk: int = Field(0, ge=0)
    """Items handed out together; 0 adapts to what is pending."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    attempts: Attempts = Attempts()
    item_time_limit_s: float = Field(1800, gt=0)
    """A worker that holds one item for longer is killed. Products (train, report) have no limit."""
    max_failed_share: float = Field(0.1, ge=0, le=1)
    """A stage ends with exit code 3 when a larger share of its items is exhausted."""
    stop_at_failed_share: float = Field(0.5, gt=0, le=1)
    """A stage stops with exit code 3 when a larger share of the last 30 items fails at its first try."""
    teacher: TeacherLimits = TeacherLimits()
    price_per_gpu_hour: float = Field(0, ge=0)
    """What `plan` prices GPU-hours with, and `--budget 200USD` is divided by; 0 prices nothing."""
    log_level: Literal["debug", "info", "warning"] = "info"


class Params:
    """A params.yaml: `run`, `stage(name)` and `plugin(family, name)` are frozen, validated when asked for."""

    def __init__(self, raw: Mapping[str, Any], extra_stages: Iterable[Stage] = ()) -> None:
        """extra_stages: stages beside the known ones, with blocks of their own. Unknown blocks are ValueErrors."""
        self.raw = dict(raw)
        self._extra = {stage.name: stage for stage in extra_stages}
        known = {"run", *ORDER, *self._extra, *PLUGIN_FAMILIES}
        if unknown := sorted(set(self.raw) - known):
            raise ValueError(f"params.yaml: unknown block {unknown[0]!r}; there are: {', '.join(sorted(known))}")
        self.run = _validate(RunParams, self.raw.get("run"), "run")
        self._stages: dict[str, Block] = {}
        self._plugins: dict[tuple[str, str], Block] = {}

    def stage(self, name: str) -> Any:
        """The block of a stage, an instance of its `Params`. Raises ValueError: the key at fault and what exists."""
        if name not in self._stages:
            stage = self._extra.get(name) or load_stage(name)
            self._stages[name] = _validate(stage.Params, self.raw.get(name), name)
        return self._stages[name]

    def plugin(self, family: str, name: str) -> Any:
        """The block of a plug-in, with its defaults where params.yaml is silent. Unknown names: ValueError."""
        if (family, name) not in self._plugins:
            block = _mapping(self.raw.get(family), family).get(name)
            self._plugins[family, name] = _validate(plugins.load(family, name).Params, block, f"{family}.{name}")
        return self._plugins[family, name]

    def validate(self) -> None:
        """Ask for every block that exists, so that a mistake anywhere is told before anything runs."""
        for stage in map(load_stage, ORDER):
            self.stage(stage.name)
            for family, name in stage.plugins(self).items():
                self.plugin(family, name)
        for family in PLUGIN_FAMILIES:
            for name in _mapping(self.raw.get(family), family):
                self.plugin(family, name)


def load_params(path: Path, overrides: Iterable[str] = ()) -> Params:
    """Read and validate params.yaml; `overrides` are "a.b=value" with YAML values."""
    try:
        raw = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    raw = _mapping(raw, path.name)
    for override in overrides:
        _set(raw, override)
    params = Params(raw)
    params.validate()
    return params


def _set(raw: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ValueError(f"--set {override!r}: write it as block.name=value")
    *parents, leaf = dotted.split(".")
    block = raw
    for parent in parents:
        block = block.setdefault(parent, {})
        if not isinstance(block, dict):
            raise ValueError(f"--set {override!r}: {parent} is no block")
    block[leaf] = yaml.safe_load(text)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a block of names and values, not {type(value).__name__}")
    return value


def _validate(model: type[B], value: Any, where: str) -> B:
    try:
        return model.model_validate(_mapping(value, where))
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([where, *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            names = ", ".join(sorted(model.model_fields))
            raise ValueError(f"params.yaml: unknown key {path}; {where} has: {names}") from error
        raise ValueError(f"params.yaml: {path}: {first['msg']} (got {first.get('input')!r})") from error

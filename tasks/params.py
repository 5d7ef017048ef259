"""params.yaml: the only knobs. Its owner validates every block; `run:` never enters a key."""

from __future__ import annotations

import copy
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from models import plugins
from models.machine import num_gpus
from models.names import there_are
from models.params import Block
from tasks.engine.outcome import counted
from tasks.engine.stage import Stage
from tasks.order import ORDER, load_stage
from tasks.yaml_file import KeyPath, parse_value, read_yaml

B = TypeVar("B", bound=Block)
PLUGIN_FAMILIES = tuple(family for family in plugins.FAMILIES if family != "sources")
A_LIST = "should be a list: [a, b], or a line `- a` for each entry"
A_BLOCK = "should be a block of names and values"
IN_YAML = {"tuple_type": A_LIST, "list_type": A_LIST, "model_type": A_BLOCK, "dict_type": A_BLOCK}
"""What pydantic says in Python's terms."""


class Attempts(Block):
    """How often an item is tried, by class of failure, before it is exhausted."""

    bad_input: int = Field(1, ge=1)
    """The item itself is at fault: corrupt, empty or too large."""
    empty_output: int = Field(1, ge=1)
    """A plug-in returned nothing that can be used."""
    error: int = Field(2, ge=1)
    """Any exception that has no class of its own."""
    teacher_error: int = Field(2, ge=1)
    """A hosted teacher raised an exception."""
    killed: int = Field(2, ge=1)
    """The process that held the item was killed."""
    timeout: int = Field(2, ge=1)
    """The item took longer than its time limit, or its teacher fell silent."""
    oom_host: int = Field(2, ge=1)
    """The machine's memory ran out."""
    oom_gpu: int = Field(2, ge=1)
    """The GPU's memory ran out. With a hosted teacher: times that the whole ladder was gone down."""
    oom_suspected: int = Field(2, ge=1)
    """An error of the GPU that often means that its memory ran out."""
    interrupted: int = Field(10, ge=1)
    """In flight when the whole run died. The run's end says little about the item, so the budget is wide."""


class TeacherLimits(Block):
    """When the process of a hosted teacher is replaced or killed; 0 means never."""

    restart_after_items: int = Field(0, ge=0)
    """Replaced after so many items."""
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
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", examples=["auto", "cpu", "cuda", "cuda:1"])
    """Where models run: auto takes a GPU for each worker where there is one, else the CPU."""
    attempts: Attempts = Attempts()
    """How often an item is tried, by class of failure."""
    item_time_limit_s: float = Field(1800, gt=0)
    """A worker that holds one item for longer is killed. Products (train, report) have no limit."""
    max_failed_share: float = Field(0.1, ge=0, le=1)
    """A stage ends with exit code 3 when a larger share of its items is exhausted."""
    stop_at_failed_share: float = Field(0.5, gt=0, le=1)
    """A stage stops with exit code 3 when a larger share of the last 30 items fails at its first try."""
    teacher: TeacherLimits = TeacherLimits()
    """When the process of a hosted teacher is replaced or killed."""
    train_processes: int = Field(0, ge=0)
    """Processes that train one student together; 0 is one for each GPU, and one where there is none."""
    examples: Literal["auto", "resident", "streamed"] = "auto"
    """What a student learns from is held on the device (resident) or read while it trains (streamed); auto holds it
    where it fits. Equal bits."""
    examples_memory_mb: float | None = Field(None, gt=0)
    """Most memory for resident examples; null is half of what is free."""
    price_per_gpu_hour: float = Field(0, ge=0)
    """What `plan` prices GPU-hours with, and `--budget 200USD` is divided by; 0 prices nothing."""
    log_level: Literal["debug", "info", "warning"] = "info"
    """The least that the logs of workers show."""


@dataclass(frozen=True)
class Origins:
    """Where values were written, so that a message can say it: a line of a file, or an override."""

    file: str = "params.yaml"
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)

    def of(self, path: KeyPath) -> str:
        """Of the value there, or of the nearest block around it, or of what an override put into it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.overrides:
                return f"--set {self.overrides[path[:length]]}"
            if path[:length] in self.lines:
                return f"{self.file}, line {self.lines[path[:length]]}"
        inside = (text for at, text in self.overrides.items() if at[: len(path)] == path)
        return next((f"--set {text}" for text in inside), self.file)


class Params:
    """A params.yaml: `run`, `stage(name)` and `plugin(family, name)` are frozen, validated when asked for."""

    def __init__(
        self, raw: Mapping[str, Any], extra_stages: Iterable[Stage] = (), origins: Origins | None = None
    ) -> None:
        """extra_stages: stages beside the known ones, with blocks of their own. Unknown blocks are ValueErrors."""
        self.raw = dict(raw)
        self._origins = origins or Origins()
        self._extra = {stage.name: stage for stage in extra_stages}
        known = ["run", *ORDER, *self._extra, *PLUGIN_FAMILIES]
        for name in map(str, self.raw):
            if name not in known:
                raise ValueError(f"{self._origins.of((name,))}: unknown block {name!r}; {there_are(known, name)}")
        self.run = self._validate(RunParams, self.raw.get("run"), ("run",))
        self._stages: dict[str, Block] = {}
        self._plugins: dict[tuple[str, str], Block] = {}

    def stage(self, name: str) -> Any:
        """The block of a stage, an instance of its `Params`. Raises ValueError: the key at fault and what exists."""
        if name not in self._stages:
            stage = self._extra.get(name) or load_stage(name)
            self._stages[name] = self._validate(stage.Params, self.raw.get(name), (name,))
        return self._stages[name]

    def plugin(self, family: str, name: str) -> Any:
        """The block of a plug-in, with its defaults where params.yaml is silent. Unknown names: ValueError."""
        if (family, name) not in self._plugins:
            model = plugins.load(family, name).Params
            self._plugins[family, name] = self._validate(model, self._family(family).get(name), (family, name))
        return self._plugins[family, name]

    def overridden(self, settings: Mapping[str, Any]) -> Params:
        """The same with values by dotted name in their places. Raises ValueError."""
        raw = copy.deepcopy(self.raw)
        for dotted, value in settings.items():
            _put(raw, dotted.split("."), value, dotted)
        return Params(raw, self._extra.values())

    def validate(self) -> None:
        """Ask for every block that exists, so that a mistake anywhere is told before anything runs."""
        for stage in map(load_stage, ORDER):
            block = self.stage(stage.name)
            stage.check_params(self)
            for family, name in stage.plugins(self).items():
                chosen_by = next((key for key in type(block).model_fields if getattr(block, key) == name), "")
                self._check_plugin(family, name, (stage.name, chosen_by))
        for family in PLUGIN_FAMILIES:
            for name in self._family(family):
                self._check_plugin(family, str(name), (family, str(name)))

    def check_device(self) -> None:
        """Raises ValueError for a GPU in `run.device` that this machine, which is to run it, does not have."""
        kind, _, index = self.run.device.partition(":")
        if kind == "cuda" and int(index or 0) >= (have := num_gpus()):
            origin = self._origins.of(("run", "device"))
            raise ValueError(
                f"{origin}: run.device is {self.run.device}, and this machine has {counted(have, 'GPU')}; "
                "set it to auto or cpu"
            )

    def _check_plugin(self, family: str, name: str, path: KeyPath) -> None:
        """path: what names the plug-in."""
        if name not in (known := plugins.known(family)):
            words = f"unknown plug-in {name!r} in {family}; {there_are(known, name)}"
            raise ValueError(f"{self._origins.of(path)}: {'.'.join(path)}: {words}")
        self.plugin(family, name)

    def _family(self, family: str) -> dict[str, Any]:
        return self._mapping(self.raw.get(family), (family,))

    def _mapping(self, value: Any, path: KeyPath) -> dict[str, Any]:
        return as_mapping(value, f"{self._origins.of(path)}: {'.'.join(path)}")

    def _validate(self, model: type[B], value: Any, path: KeyPath) -> B:
        try:
            return model.model_validate(self._mapping(value, path))
        except ValidationError as error:
            first = error.errors()[0]
            at = (*path, *map(str, first["loc"]))
            words = _what_is_wrong(first, model, at)
            raise ValueError(f"{self._origins.of(at)}: {words}") from error


def load_params(path: Path, overrides: Iterable[str] = ()) -> Params:
    """Read and validate params.yaml; `overrides` are "a.b=value" with YAML values."""
    document = read_yaml(path)
    raw = as_mapping(document.content, str(path))
    overridden = {_set(raw, override): override for override in overrides}
    params = Params(raw, origins=Origins(str(path), document.lines, overridden))
    params.validate()
    return params


def as_mapping(value: Any, where: str) -> dict[str, Any]:
    """A block that was read; one that is left empty has no names. Raises ValueError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a block of names and values, not {reprlib.repr(value)}")
    return value


def by_dotted_name(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below nested blocks: ("views.size_px", 128)."""
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from by_dotted_name(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def _set(raw: dict[str, Any], override: str) -> KeyPath:
    """Change one value; returns its path."""
    dotted, equals, text = override.partition("=")
    *parents, leaf = dotted.split(".")
    if not equals or not all((*parents, leaf)):
        raise ValueError(f"--set {override!r}: write it as block.name=value")
    try:
        value = parse_value(text)
    except ValueError as error:
        raise ValueError(f"--set {override!r}: not valid YAML: {error}") from error
    _put(raw, [*parents, leaf], value, f"--set {override!r}")
    return (*parents, leaf)


def _put(raw: dict[str, Any], path: Sequence[str], value: Any, what: str) -> None:
    """what: where the value comes from, for messages."""
    *parents, leaf = path
    block = raw
    for parent in parents:
        inner = block.get(parent)
        block[parent] = block = as_mapping(inner, f"{what}: {parent}")
    block[leaf] = value


def _what_is_wrong(error: ErrorDetails, model: type[BaseModel], path: KeyPath) -> str:
    """pydantic's error as one sentence that names the key, what it may be, and what it is."""
    key, value, kind = ".".join(path), error.get("input"), error["type"]
    fields = _fields_beside(model, error["loc"])
    if kind == "extra_forbidden":
        return f"unknown key {key}; {there_are(sorted(fields), path[-1])}"
    examples = fields[path[-1]].examples if path[-1] in fields else None
    if kind == "value_error":
        words = str(error["ctx"]["error"])
    elif kind == "string_pattern_mismatch" and examples:
        words = f"should be written as one of {', '.join(map(str, examples))}"
    else:
        words = IN_YAML.get(kind, error["msg"].removeprefix("Input "))
    if isinstance(value, str) and value.endswith("%"):
        words += "; 10% is written 0.1"
    scalar = not isinstance(value, dict | list | tuple)
    return f"{key}: {words}" + (f" (got {reprlib.repr(value)})" if scalar else "")


def _fields_beside(model: type[BaseModel], location: Sequence[int | str]) -> Mapping[str, FieldInfo]:
    """The fields of the block that the location's last key lies in; none where that is no block."""
    for part in location[:-1]:
        inner = model.model_fields[str(part)].annotation if part in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return {}
        model = inner
    return model.model_fields

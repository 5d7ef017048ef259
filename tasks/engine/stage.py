"""What a stage declares, what its worker is given and what it gives back.

class Silhouettes:                                   # tasks/silhouettes.py
    name = "silhouettes"
    upstreams = ("views",)                           # wants every item of `views`
    Params = SilhouetteParams                        # its block in params.yaml

    def reads(self, records, params):                # exactly what enters the key
        return [("views", name) for name in records["views"].files if name.endswith(".png")]

    def start(self, context):                        # in the worker process: load what is heavy, once
        def run(item: Item) -> Output:
            alpha = decode_rgba(item.read("views", "view.front.png"))[..., 3]
            return Output({"silhouette.png": encode_png(alpha)})
        return run
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from models.needs import Need
from models.params import Block
from tasks.collections.files import file_sha256
from tasks.collections.records import Record
from tasks.workspace import Workspace

Json = Any
T = TypeVar("T")
Reader = Callable[[Record, str], bytes]
Inputs = tuple[tuple[str, str], ...]
"""(name, sha256) of every file that is read of an item."""


def item_key(recipe: str, inputs: Inputs) -> str:
    """sha256 (64 hex) over the name of a recipe and the inputs."""
    text = recipe + "".join([f"\n{name}\0{sha256}" for name, sha256 in inputs])
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Item:
    """One item in a worker's hands. `records` maps each upstream stage that has the item to its record."""

    id: str
    key: str
    label: str
    records: Mapping[str, Record]
    read_file: Callable[[str, str, str], bytes] = field(repr=False)
    work_dir: Path = field(repr=False, default=Path())
    """A local folder of this (id, key), kept over crashes: for progress too costly to lose (checkpoints)."""

    def read(self, stage: str, name: str) -> bytes:
        """Bytes of an upstream file of this item, checked against its digest."""
        return self.read_file(stage, self.id, name)

    def names(self, stage: str, prefix: str = "") -> list[str]:
        """Names of the item's files in an upstream stage, sorted; none where the stage lacks the item."""
        record = self.records.get(stage)
        return sorted(name for name in record.files if name.startswith(prefix)) if record else []


@dataclass(frozen=True)
class Output:
    """What a stage made of an item: files by name (no slashes), and the facts that go into its record."""

    files: Mapping[str, bytes]
    frame: str | None = None
    quality: Mapping[str, Json] = field(default_factory=dict)
    rung: int = 0
    facts: Mapping[str, Json] = field(default_factory=dict)
    measured: Mapping[str, Json] = field(default_factory=dict)
    """What it cost (memory, settings tried): for the ledger, never for the record."""


@dataclass(frozen=True)
class ItemFiles:
    """The files of one record that an offer is read from. It refuses those that the offer does not name."""

    record: Record
    names: Sequence[str]
    read_file: Callable[[str], bytes] = field(repr=False)

    def read(self, name: str) -> bytes:
        if name not in self.names:
            raise ValueError(f"{name} is read and not named by the offer: what is read must be in the key")
        return self.read_file(name)


def _alike(forms: Sequence[Json], params: Any) -> Json:
    """The form that all items share."""
    first = forms[0]
    if different := next((form for form in forms if form != first), None):
        raise ValueError(f"they are of several kinds: {first} and {different}")
    return first


@dataclass(frozen=True)
class Offer(Generic[T]):
    """Something that a stage's records hold, for whoever needs it (models/needs.py). It stands where they are written.

    files(record, params): the files that it is read from, none where this record does not hold it; their digests enter
    the reader's key. facts: facts of the record that decide how they are read; they enter it too. read: the thing
    itself. form(record, params): what items must share to be learned from together (JSON). join(forms, params): the
    form of all of them; ValueError where they do not go together.
    """

    need: Need[T]
    files: Callable[[Record, Any], Sequence[str]]
    read: Callable[[ItemFiles], T]
    facts: tuple[str, ...] = ()
    form: Callable[[Record, Any], Json] = lambda record, params: None
    join: Callable[[Sequence[Json], Any], Json] = _alike


class Wanted(NamedTuple):
    """An item that a stage should have, before its key is known.

    inputs: what enters the key beside params, versions and weights: (name, sha256) of every file read.
    payload: what the worker needs beyond upstream records (ingest: where the files lie); JSON, not in the key.
    item: whose upstream records a worker is given, where that is not `id`.
    note: what `plan` and a run say of it. outlook: what `plan` says while items upstream are still to be made, which
    change nothing where it is settled.
    """

    id: str
    label: str
    inputs: Inputs
    records: Mapping[str, Record] = MappingProxyType({})
    skip: str | None = None
    payload: Json = None
    item: str | None = None
    note: str = ""
    outlook: str = ""
    settled: bool = False


class Upstream:
    """Read access to one upstream collection: `records` by id, and file bytes checked against their digests."""

    def __init__(self, name: str, records: Mapping[str, Record], read: Reader) -> None:
        self.name = name
        self.records = records
        self._read = read

    def read(self, item_id: str, name: str) -> bytes:
        return self._read(self.records[item_id], name)


@dataclass(frozen=True)
class Context:
    """What a worker's `start` is given.

    params: the whole validated params (`params.stage("teach")`, `params.plugin("teachers", "visual_hull")`).
    device: "cpu" or "cuda:N". work_dir: local to the stage, kept over runs, never versioned.
    """

    workspace: Path
    params: Any
    device: str
    num_threads: int
    work_dir: Path
    upstreams: Mapping[str, Upstream]
    progress: Callable[[str], None]
    trial: str = ""
    """The trial's name, where the run is one: see `tasks.workspace.Workspace`."""
    payload: Callable[[str], Json] = field(default=lambda _: None)
    """What `wanted` attached to an item, in the worker's hands."""
    closing: Callable[[Callable[[], None]], None] = field(default=lambda _: None)
    """Ask for a call when the worker ends in order."""
    digest: Callable[[Path], str] = file_sha256
    """sha256 of a file; the planner's remembers by size, times and inode."""
    published: Upstream | None = None
    """A product's own collection as it was last published."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Result versions by entry, in the planner's hands."""
    recipe: str = ""
    """Name of the recipe that the planner makes keys with."""
    finished: Callable[[], Iterator[Record]] = field(default=lambda: iter(()))
    """For the planner, the stage's own finished items on this machine, superseded ones included."""

    @property
    def paths(self) -> Workspace:
        """Where the workspace's files lie."""
        return Workspace(self.workspace, self.trial)


class Stage:
    """The base of every stage; see the module's docstring for an example."""

    name: ClassVar[str]
    upstreams: ClassVar[tuple[str, ...]] = ()
    """Collections it reads. The stage wants the items of the first; the others may lack an item."""
    Params: ClassVar[type[Block]]
    product: ClassVar[bool] = False
    """True for train and report: one output, whose one item has the stage's name for an id."""
    publishes: ClassVar[tuple[str, ...]] = ()
    """Files of a product that are also written to artifacts/STAGE/ under their names (report: index.html)."""
    max_workers: ClassVar[int | None] = None
    offers: ClassVar[tuple[Offer[Any], ...]] = ()
    """What its records hold for students, teachers and evaluation."""
    optional: ClassVar[bool] = False
    """It runs only where somebody needs what it offers (`idle`)."""
    plugin_blocks: ClassVar[tuple[str, ...]] = ()
    """Its plug-ins' blocks, as dvc.yaml names them in params.yaml and versions.yaml: `mattes.${matte.matte}`, or a
    whole family where a block may name none."""
    watches: ClassVar[tuple[str, ...]] = ()
    """Further blocks of params.yaml that its keys depend on, for dvc.yaml."""
    plots: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """Of the published files, those that `dvc plots` draws, with their axes."""

    def check_params(self, params: Any) -> None:
        """Raises ValueError for params that are right one by one and cannot be together."""

    def idle(self, params: Any) -> str | None:
        """Why it has nothing to do under these params, or None. A function of params alone."""
        return None

    def upstreams_of(self, params: Any) -> tuple[str, ...]:
        """Those of its upstreams that it reads under these params. The others may be absent, and their changes change
        nothing here."""
        return self.upstreams

    def ids_of(self, item_id: str, params: Any) -> Sequence[str]:
        """Ids of the records that it makes of an item."""
        return (item_id,)

    def recipe_plugins(self, params: Any) -> dict[str, str]:
        """The plug-ins whose params and versions are in all its keys; a stage may have others in its inputs."""
        return self.plugins(params)

    def plugins(self, params: Any) -> dict[str, str]:
        """Chosen plug-ins by family; their params and versions enter the key."""
        return {}

    def used_plugins(self, params: Any) -> Iterable[tuple[str, str]]:
        """(family, name) of every plug-in that it may load, where several of a family may be."""
        return self.plugins(params).items()

    def key_params(self, params: Any) -> Json:
        """The stage's params that can change a result; the default takes its whole block."""
        return params.stage(self.name).model_dump(mode="json")

    def uses_gpu(self, params: Any) -> bool:
        """Whether a worker is given a GPU of its own where there is one: no more workers than GPUs then."""
        return False

    def weights(self, params: Any, workspace: Path) -> Sequence[Path]:
        """Weight files used; their digests enter the key. A missing one is the worker's Unavailable."""
        return ()

    def skip(self, records: Mapping[str, Record], params: Any) -> str | None:
        """Why the stage does not apply to this item, or None."""
        return None

    def reads(self, records: Mapping[str, Record], params: Any) -> Iterable[tuple[str, str]]:
        """(stage, file name) of all it reads of this item: these digests enter the key."""
        return [(stage, name) for stage, record in records.items() for name in sorted(record.files)]

    def wanted(self, context: Context) -> Iterator[Wanted]:
        """The items it should have. The default takes them from the first upstream; ingest and products differ."""
        first, *others = self.upstreams_of(context.params)
        for item_id, record in context.upstreams[first].records.items():
            records = {first: record}
            for other in others:
                if found := context.upstreams[other].records.get(item_id):
                    records[other] = found
            skip = self.skip(records, context.params)
            reads = [] if skip else self.reads(records, context.params)
            inputs = tuple([(f"{stage}/{name}", records[stage].files[name].sha256) for stage, name in reads])
            yield Wanted(item_id, item_id, inputs, records, skip)

    def notices(self, context: Context) -> list[str]:
        """What people should know of the items that `wanted` listed last; `plan` tells it."""
        return []

    def unwanted(self, item_id: str, context: Context) -> str | None:
        """Why it has no use for an item, whatever upstream stages still make of it; None where it may want it."""
        return None

    def refusal(self, context: Context) -> str | None:
        """Why it will not work on these upstreams though it could, and what to do; None where it will (exit code 5)."""
        return None

    def start(self, context: Context) -> Callable[[Item], Output]:
        """Called once in each worker process; returns what handles one item. May raise Unavailable."""
        raise NotImplementedError

    def metrics(self, records: Iterable[Record], context: Context) -> dict[str, Json]:
        """Extra counts and quality for artifacts/STAGE/metrics.json; no times, no memory.

        `notices`, where there are any, is a list of sentences that the run and `status` tell.
        """
        return {}

    def scores(self, metrics: Mapping[str, Json], context: Context) -> dict[str, Json] | None:
        """The few of these figures that `dvc metrics` compares, for artifacts/STAGE/scores.json; None: no such file."""
        return None

    def remark(self, record: Record, params: Any) -> str:
        """What `lostwax explain` says of a finished item."""
        return ""


def load_class(reference: str) -> type[Stage]:
    """The class behind "module:Class"."""
    module, _, name = reference.partition(":")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise TypeError(f"{reference} is no Stage")
    return found


def reference(stage: Stage) -> str:
    """The inverse of load_class: how a worker process is told which stage to load."""
    return f"{type(stage).__module__}:{type(stage).__qualname__}"

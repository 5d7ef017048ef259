"""`plan` and `status`: what a run would do, and where everything stands. Nothing here computes or changes an item."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping, Set
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from textwrap import shorten
from typing import Any

from models.errors import Unavailable
from models.machine import num_gpus
from tasks.collections.index import Finished
from tasks.collections.ledger import Ledger
from tasks.collections.records import DamagedList, KeptLines, RecordLines, WithoutItems, from_line, read_items
from tasks.collections.statcache import StatCache
from tasks.collections.summaries import known_failures
from tasks.engine.dispatch import most_workers
from tasks.engine.outcome import OK
from tasks.engine.planning import StagePlan, StageRecipe, make_recipe, plan_stage, published_failures
from tasks.engine.stage import Context, Stage
from tasks.engine.supervisor import Task
from tasks.engine.upstreams import UpstreamLines, planning_context
from tasks.order import load_stage
from tasks.params import Params, by_dotted_name
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Forecast:
    """What a run would do to one stage.

    exact: false behind a stage with work to do; `stale` and `missing` are then upper bounds. why: what makes items
    stale. notices: what people should know of the items. seconds: from recorded speeds, None without any. gpu_hours:
    those of a stage that uses a GPU where there is one. price: at run.price_per_gpu_hour, None without one.
    disk_mb: new shards, with DVC's copy.
    """

    stage: str
    total: int = 0
    fresh: int = 0
    stale: int = 0
    missing: int = 0
    exhausted: int = 0
    skipped: int = 0
    exact: bool = True
    why: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    seconds: float | None = None
    gpu_hours: float | None = None
    price: float | None = None
    disk_mb: float | None = None

    @property
    def to_compute(self) -> int:
        return self.stale + self.missing

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"to_compute": self.to_compute}


def forecast(workspace: Workspace, params: Params, versions: Mapping[str, int], names: Iterable[str]) -> list[Forecast]:
    """The stages in order, each planned on what the ones before it will have published."""
    return forecast_stages(workspace, params, versions, map(load_stage, names))


def forecast_stages(
    workspace: Workspace, params: Params, versions: Mapping[str, int], stages: Iterable[Stage]
) -> list[Forecast]:
    """The same for given stages. It ends with the first that cannot be planned, which says why."""
    remaining = deque(stages)
    ahead: dict[str, _Upstream] = {}
    found: list[Forecast] = []
    with closing(StatCache(workspace.stat_cache_file)) as stats:
        while remaining:
            stage = remaining.popleft()
            is_read = any(stage.name in later.upstreams for later in remaining)
            try:
                planned, upstream = _forecast_stage(stage, workspace, params, versions, stats, ahead, is_read)
                found.append(planned)
                if upstream:
                    ahead[stage.name] = upstream
            except (ValueError, Unavailable) as error:
                found.append(Forecast(stage.name, exact=False, why=[f"cannot be planned: {error}"]))
                break
    return found


def _forecast_stage(
    stage: Stage,
    workspace: Workspace,
    params: Params,
    versions: Mapping[str, int],
    stats: StatCache,
    ahead: Mapping[str, _Upstream],
    is_read: bool,
) -> tuple[Forecast, _Upstream | None]:
    """What a run would do to the stage, and what it will have published then. is_read: a later stage asks for that."""
    if reason := stage.idle(params):
        return Forecast(stage.name, why=[reason]), _Upstream(stage.product, KeptLines(), set())
    with Ledger(workspace.local(stage.name), reading=True) as ledger:
        planner = _Planner(stage, workspace, params, versions, stats, ledger, ahead)
        return planner.forecast(), planner.published_ahead() if is_read else None


@dataclass
class _Upstream:
    """A collection as it will be: the records that are sure, and the ids that a run may change or add."""

    is_product: bool
    records: RecordLines
    uncertain: Set[str]


class _Planner:
    """Plans one stage on what the stages before it will have published."""

    def __init__(
        self,
        stage: Stage,
        workspace: Workspace,
        params: Params,
        versions: Mapping[str, int],
        stats: StatCache,
        ledger: Ledger,
        ahead: Mapping[str, _Upstream],
    ) -> None:
        self._stage, self._workspace, self._params, self._ledger = stage, workspace, params, ledger
        self._versions = versions
        self._upstreams = {name: ahead[name] for name in stage.upstreams_of(params)}
        self._finished = Finished(workspace.local(stage.name), workspace.shards_dir(stage.name), stats.digest)
        self._finished.refresh()
        self._recipe = make_recipe(stage, params, versions, workspace, stats.digest)
        self._uncertain: Set[str] = set().union(*(upstream.uncertain for upstream in self._upstreams.values()))
        self._context = self._make_context(stats)
        self._plan = StagePlan(self._recipe, self._finished)
        self._blocked = _Blocked.read(workspace, stage.name, ledger)
        self._refusal: str | None = None
        self._words: list[str] = []
        self._notices: list[str] = []

    def forecast(self) -> Forecast:
        """Raises ValueError and Unavailable where the stage cannot be planned."""
        self._make_plan()
        wanted = [item for item in self._uncertain if self._stage.unwanted(item, self._context) is None]
        self._uncertain = {own for item in wanted for own in self._stage.ids_of(item, self._params)}
        plan, pending = self._plan, {task.id for task in self._plan.pending}
        reopened = {task.id for task in plan.reopened}
        stale = plan.stale | (self._uncertain & self._finished.ids()) | reopened
        missing = (pending | self._uncertain) - stale
        return self._with_cost(
            Forecast(
                stage=self._stage.name,
                total=plan.total + len(self._uncertain - pending),
                fresh=len(plan.fresh) - len(reopened),
                stale=len(stale),
                missing=len(missing),
                exhausted=len(plan.exhausted),
                skipped=len(plan.skipped),
                exact=not self._uncertain,
                why=self._why(),
                notices=self._notices,
            )
        )

    def published_ahead(self) -> _Upstream:
        """What the stage will have published, once it has been planned.

        An item that was blocked last time is tried again; as long as it stays blocked, nothing later changes.
        """
        pending = {task.id for task in self._plan.pending} - self._blocked.tolerated(self._plan.pending)
        return _Upstream(self._stage.product, self._records(), self._uncertain | pending)

    def _records(self) -> RecordLines:
        """The fresh items; read from the published list, where that is the same, because it costs no memory."""
        published, fresh = read_items(self._workspace.items_file(self._stage.name)), self._plan.lines()
        try:
            is_same = all(line == other for line, other in zip_longest(published.lines(), fresh.lines()))
        except DamagedList:
            is_same = False
        return published if is_same else fresh

    def _make_context(self, stats: StatCache) -> Context:
        upstreams = {name: UpstreamLines(self._workspace, name, stats) for name in self._upstreams}
        for name, upstream in upstreams.items():
            records = self._upstreams[name].records
            upstream.adopt(WithoutItems(records, self._uncertain) if self._uncertain else records)
        return planning_context(self._stage, self._workspace, self._params, stats, upstreams, self._versions)

    def _make_plan(self) -> None:
        """Plan what is sure, and find out which items are not."""
        stage = self._stage
        needs_a_product = any(upstream.is_product for upstream in self._upstreams.values())
        is_unknown = bool(self._uncertain) and (stage.product or needs_a_product)
        if is_unknown and not stage.product:
            products = {name for name, upstream in self._upstreams.items() if upstream.is_product}
            self._uncertain = self._uncertain | set(self._upstreams[stage.upstreams[0]].records) - products
            return
        failures = published_failures(self._workspace.failures_file(stage.name)) | self._ledger.failures()
        budgets, reopened = self._params.run.attempts, self._ledger.reopened()
        plan = plan_stage(stage, self._context, self._recipe, self._finished, failures, budgets, reopened)
        self._notices = stage.notices(self._context)
        if not is_unknown or plan.settled:
            self._plan, self._refusal, self._words = plan, stage.refusal(self._context), plan.notes
        if is_unknown:
            self._words = self._words + plan.outlook
            self._uncertain = set() if plan.settled else {stage.name}

    def _why(self) -> list[str]:
        why = self._words + _why_stale(self._recipe, self._finished, self._ledger, self._plan.stale)
        why += ["its inputs may change"] if self._uncertain else []
        num_reopened = len(self._plan.reopened)
        why += [f"{num_reopened} made at a reduced rung, to be made again"] if num_reopened else []
        why += [f"will stop: {self._refusal}"] if self._refusal else []
        return why + self._blocked.words({task.id for task in self._plan.pending} | self._uncertain)

    def _with_cost(self, found: Forecast) -> Forecast:
        run, num, each_s = self._params.run, found.to_compute, self._ledger.seconds_per_item()
        disk_mb = _disk_mb(self._finished, num)
        if each_s is None:
            return replace(found, disk_mb=disk_mb)
        work_s = each_s * num
        gpu_hours = work_s / 3600 if self._stage.uses_gpu(self._params) and num_gpus() else None
        return replace(
            found,
            seconds=work_s / max(1, min(most_workers(self._stage, self._params), num)),
            gpu_hours=gpu_hours,
            price=gpu_hours * run.price_per_gpu_hour if gpu_hours and run.price_per_gpu_hour else None,
            disk_mb=disk_mb,
        )


@dataclass(frozen=True)
class _Blocked:
    """What the last run could not begin for want of something: messages by id and key. It is tried again."""

    messages: Mapping[tuple[str, str], str]
    is_tolerated: bool
    """The stage succeeded without them."""

    @staticmethod
    def read(workspace: Workspace, name: str, ledger: Ledger) -> _Blocked:
        entries = known_failures(workspace.failures_file(name))
        blocked = {
            (entry["id"], entry.get("key", "")): entry["message"] for entry in entries if entry["state"] == "blocked"
        }
        last_run = ledger.last_run()
        return _Blocked(blocked, last_run is not None and last_run["exit_code"] == OK)

    def tolerated(self, pending: Iterable[Task]) -> set[str]:
        """Ids of those pending items whose absence did not stop the stage last time."""
        return {task.id for task in pending if (task.id, task.key) in self.messages} if self.is_tolerated else set()

    def words(self, to_compute: Set[str]) -> list[str]:
        """A line for `plan`, where there are any among the items to compute."""
        reasons = [message for (item_id, _), message in self.messages.items() if item_id in to_compute]
        return [f"{len(reasons)} blocked last time: {shorten(reasons[0], 60, placeholder=' ...')}"] if reasons else []


def _why_stale(recipe: StageRecipe, finished: Finished, ledger: Ledger, stale: set[str]) -> list[str]:
    if not stale:
        return []
    reasons: set[str] = set()
    for line in finished.lines():
        record = from_line(line)
        if record.id in stale:
            if record.recipe == recipe.name:
                reasons.add("inputs changed")
            else:
                reasons |= set(differences(ledger.recipe(record.recipe), recipe.content))
    return sorted(reasons)


def differences(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """`params.size_px: 128 -> 160` for every leaf that differs between two recipes.

    Where one plug-in replaced another, what each of them was set to says nothing.
    """
    if before is None:
        return ["made elsewhere, under other params or versions"]
    exchanged = before["plugins"].keys() ^ now["plugins"].keys()
    old, new = (dict(by_dotted_name(_without(recipe, exchanged))) for recipe in (before, now))
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    reasons = [f"{name}: {json.dumps(old.get(name))} -> {json.dumps(new.get(name))}" for name in changed]
    return reasons or [f"{name}: {'added' if name in now['plugins'] else 'gone'}" for name in sorted(exchanged)]


def _without(recipe: Mapping[str, Any], plugins: Set[str]) -> dict[str, Any]:
    """A recipe without the params and versions of these plug-ins."""
    parts = {part: dict(recipe[part]) for part in ("plugins", "versions")}
    for part in parts.values():
        for name in plugins & part.keys():
            del part[name]
    return {**recipe, **parts}


def _disk_mb(finished: Finished, num: int, sample: int = 100) -> float | None:
    sizes = []
    for line, _ in zip(finished.lines(), range(sample), strict=False):
        sizes.append(sum(entry.size for entry in from_line(line).files.values()))
    return 2 * num * sum(sizes) / len(sizes) / 1e6 if sizes else None

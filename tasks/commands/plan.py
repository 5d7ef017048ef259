"""`plan` and `status`: what a run would do, and where everything stands. Nothing here computes or changes an item."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field
from textwrap import shorten
from typing import Any

from models.machine import num_gpus
from tasks.collections.index import Held
from tasks.collections.ledger import Ledger
from tasks.collections.records import from_line
from tasks.collections.statcache import StatCache
from tasks.engine.dispatch import most_workers
from tasks.engine.planning import Recipe, StagePlan, make_recipe, plan_stage, published_failures
from tasks.engine.runner import UpstreamLines, planning_context
from tasks.engine.stage import Stage
from tasks.order import load_stage
from tasks.params import Params
from tasks.workspace import Workspace


@dataclass(frozen=True)
class Forecast:
    """What a run would do to one stage.

    exact: false behind a stage with work to do; `stale` and `missing` are then upper bounds. why: what makes items
    stale. seconds: from recorded speeds, None without any. gpu_hours: those of a stage that uses a GPU
    where there is one. price: at run.price_per_gpu_hour, None without one. disk_mb: new shards, with DVC's copy.
    """

    stage: str
    total: int
    fresh: int
    stale: int
    missing: int
    exhausted: int
    skipped: int
    exact: bool
    why: list[str] = field(default_factory=list)
    seconds: float | None = None
    gpu_hours: float | None = None
    price: float | None = None
    disk_mb: float | None = None

    @property
    def to_compute(self) -> int:
        return self.stale + self.missing

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"to_compute": self.to_compute}


@dataclass
class _Upstream:
    """A collection as it will be: the records that are sure, and the ids that a run may change or add."""

    lines: dict[str, bytes]
    uncertain: set[str]


def forecast(workspace: Workspace, params: Params, versions: Mapping[str, int], names: Iterable[str]) -> list[Forecast]:
    """The stages in order, each planned on what the ones before it will have published."""
    return forecast_stages(workspace, params, versions, map(load_stage, names))


def forecast_stages(
    workspace: Workspace, params: Params, versions: Mapping[str, int], stages: Iterable[Stage]
) -> list[Forecast]:
    stats = StatCache(workspace.stat_cache_file)
    try:
        ahead: dict[str, _Upstream] = {}
        found = []
        for stage in stages:
            planned, upstream = _forecast_stage(stage, workspace, params, versions, stats, ahead)
            found.append(planned)
            ahead[stage.name] = upstream
        return found
    finally:
        stats.close()


def _forecast_stage(
    stage: Stage,
    workspace: Workspace,
    params: Params,
    versions: Mapping[str, int],
    stats: StatCache,
    ahead: Mapping[str, _Upstream],
) -> tuple[Forecast, _Upstream]:
    if reason := stage.idle(params):
        return Forecast(stage.name, 0, 0, 0, 0, 0, 0, exact=True, why=[reason]), _Upstream({}, set())
    held = Held(workspace.local(stage.name), workspace.shards_dir(stage.name), stats.digest)
    held.refresh()
    uncertain = _uncertain(stage, ahead)
    recipe = make_recipe(stage, params, versions, workspace, stats.digest)
    upstreams = {name: UpstreamLines(workspace, name, stats) for name in stage.upstreams}
    for name, upstream in upstreams.items():
        upstream.adopt({item: line for item, line in ahead[name].lines.items() if item not in uncertain})
    with Ledger(workspace.local(stage.name)) as ledger:
        plan, refusal, words = StagePlan(recipe), None, list[str]()
        unknown = bool(uncertain) and (stage.product or _needs_a_product(stage))
        context = planning_context(stage, workspace, params, stats, upstreams, versions)
        if not unknown or stage.product:
            failures = published_failures(workspace.failures_file(stage.name)) | ledger.failures()
            found = plan_stage(stage, context, recipe, held, failures, params.run.attempts, ledger.reopened())
            if not unknown or found.settled:
                plan, refusal, words = found, stage.refusal(context), found.notes
            if unknown:
                words = words + found.outlook
                uncertain = set() if found.settled else {stage.name}
        else:
            products = {name for name in stage.upstreams if load_stage(name).product}
            uncertain = (uncertain | ahead[stage.upstreams[0]].lines.keys()) - products
        uncertain = {item_id for item_id in uncertain if stage.unwanted(item_id, context) is None}
        uncertain = {own for item_id in uncertain for own in stage.ids_of(item_id, params)}
        known = held.ids()
        reopened = {task.id for task in plan.reopened}
        stale = plan.stale | (uncertain & known) | reopened
        missing = ({task.id for task in plan.pending} | uncertain) - stale
        seconds_each = ledger.seconds_per_item()
        num = len(stale) + len(missing)
        work_s = None if seconds_each is None else seconds_each * num
        seconds = None if work_s is None else work_s / max(1, min(most_workers(stage, params), num))
        gpu_hours = None if work_s is None or not (stage.uses_gpu(params) and num_gpus()) else work_s / 3600
        why = words + _why_stale(recipe, held, ledger, plan.stale) + (["its inputs may change"] if uncertain else [])
        why += [f"{len(reopened)} made at a reduced rung, to be made again"] if reopened else []
        why += [f"will stop: {refusal}"] if refusal else []
        why += _why_blocked(workspace, stage.name, missing)
        planned = Forecast(
            stage=stage.name,
            total=plan.total + len(uncertain - {task.id for task in plan.pending}),
            fresh=len(plan.held) - len(reopened),
            stale=len(stale),
            missing=len(missing),
            exhausted=len(plan.exhausted),
            skipped=len(plan.skipped),
            exact=not uncertain,
            why=why,
            seconds=seconds,
            gpu_hours=gpu_hours,
            price=gpu_hours * params.run.price_per_gpu_hour if gpu_hours and params.run.price_per_gpu_hour else None,
            disk_mb=_disk_mb(held, num),
        )
    return planned, _Upstream(plan.held, uncertain | {task.id for task in plan.pending})


def _uncertain(stage: Stage, ahead: Mapping[str, _Upstream]) -> set[str]:
    return set().union(*(ahead[name].uncertain for name in stage.upstreams)) if stage.upstreams else set()


def _needs_a_product(stage: Stage) -> bool:
    return any(load_stage(name).product for name in stage.upstreams)


def _why_stale(recipe: Recipe, held: Held, ledger: Ledger, stale: set[str]) -> list[str]:
    if not stale:
        return []
    reasons: set[str] = set()
    for line in held.lines():
        record = from_line(line)
        if record.id in stale:
            if record.recipe == recipe.name:
                reasons.add("inputs changed")
            else:
                reasons |= set(differences(ledger.recipe(record.recipe), recipe.content))
    return sorted(reasons)


def _why_blocked(workspace: Workspace, name: str, pending: set[str]) -> list[str]:
    """What the last run could not begin for want of something, and is tried again."""
    path = workspace.failures_file(name)
    entries = json.loads(path.read_text()) if path.is_file() else []
    reasons = [entry["message"] for entry in entries if entry["state"] == "blocked" and entry["id"] in pending]
    return [f"{len(reasons)} blocked last time: {shorten(reasons[0], 60, placeholder=' ...')}"] if reasons else []


def differences(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """`params.size_px: 128 -> 160` for every leaf that differs between two recipes.

    Where one plug-in has taken the place of another, what each of them was set to says nothing.
    """
    if before is None:
        return ["made elsewhere, under other params or versions"]
    exchanged = before["plugins"].keys() ^ now["plugins"].keys()
    old, new = (dict(_leaves(_without(recipe, exchanged))) for recipe in (before, now))
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


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def _disk_mb(held: Held, num: int, sample: int = 100) -> float | None:
    sizes = []
    for line, _ in zip(held.lines(), range(sample), strict=False):
        sizes.append(sum(entry.size for entry in from_line(line).files.values()))
    return 2 * num * sum(sizes) / len(sizes) / 1e6 if sizes else None

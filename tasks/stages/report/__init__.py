"""report: one self-contained page that shows how good the student is, from what, and at what cost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

from pydantic import Field

from models.params import Block
from tasks.collections.records import Record, RecordLines, to_line
from tasks.engine.planning import StageRecipe, make_recipe
from tasks.engine.stage import Context, Item, Output, Stage, Wanted
from tasks.order import ORDER, load_stage
from tasks.versions import load_versions

PAGE = "index.html"


class ReportParams(Block):
    title: str = Field("Distillation report", min_length=1)
    """Heading of the page."""
    num_items: int = Field(8, ge=0, le=40)
    """Items shown as pictures: worst, typical and best."""
    strip_views: int = Field(6, ge=1, le=24)
    """Views of a turntable strip."""
    strip_size_px: int = Field(160, ge=32, le=512)
    """Side of one view, before the margins that an item's strips share are cut off."""
    num_gate_items: int = Field(12, ge=0, le=100)
    """Items whose views and teacher's renders are shown, rejected ones first."""
    num_objects: int = Field(24, ge=0, le=200)
    """Objects on the contact sheet of what was ingested."""
    most_rows: int = Field(100, ge=1)
    """Longest table of items or failures."""


class Report(Stage):
    """Writes index.html, which is also laid in artifacts/report/. Times on it make it differ from run to run."""

    name = "report"
    upstreams = ("evaluate", "train", "gate", "teach", "features", "matte", "views", "ingest")
    Params = ReportParams
    product = True
    publishes = (PAGE,)
    watches = ("gate",)

    def wanted(self, context: Context) -> Iterator[Wanted]:
        """The page. Records, failures, recipes and the gate's limits enter its key; times do not."""
        workspace = context.paths
        inputs = [(f"{name}/records", _digest(upstream.records)) for name, upstream in context.upstreams.items()]
        for name in ORDER[: ORDER.index(self.name)]:
            failures = workspace.failures_file(name)
            inputs.append((f"{name}/failures.json", context.digest(failures) if failures.is_file() else "absent"))
        limits = context.params.stage("gate").model_dump_json()
        inputs.append(("gate/limits", hashlib.sha256(limits.encode()).hexdigest()))
        inputs += [(f"{recipe.content['stage']}/recipe", recipe.name) for recipe in recipes(context)]
        yield Wanted(self.name, self.name, tuple(inputs))

    def start(self, context: Context) -> Callable[[Item], Output]:
        from tasks.stages.report.page import make_page

        return lambda item: Output({PAGE: make_page(context).encode()})


def recipes(context: Context) -> list[StageRecipe]:
    """Params, plug-ins, versions and weights of every stage before this one, as they are now."""
    workspace = context.paths
    versions = load_versions(workspace.versions_file)
    stages = map(load_stage, ORDER[: ORDER.index(Report.name)])
    return [make_recipe(stage, context.params, versions, workspace, context.digest) for stage in stages]


def _digest(records: Mapping[str, Record]) -> str:
    lines = (
        records.lines() if isinstance(records, RecordLines) else (to_line(records[name]) for name in sorted(records))
    )
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return digest.hexdigest()

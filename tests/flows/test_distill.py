"""What Prefect makes of a stage's end: states, retries, artifacts. The stages themselves are stood in for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.server import get
from tasks.collections.holder import HeldByAnother
from tasks.engine.outcome import OK, TOO_MANY_FAILED, Outcome, Progress, StageFailed
from tasks.order import ORDER
from tasks.workspace import Workspace
from tests.flows.api import artifacts_of, post
from tests.support import make_workspace, wait_until

Ending = Callable[[], Outcome]


def outcome(stage: str, *, computed: int = 1, exit_code: int = OK, exhausted: int = 0) -> Outcome:
    done = 4 - exhausted
    return Outcome(stage, exit_code, 4, done, computed, 0, exhausted, 0, 0, 0.1, "" if exit_code == OK else "too many")


class Stages:
    """Stands in for `run_stage`: each stage ends as it is told to, and what was called is written down."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.endings: dict[str, list[Outcome | Exception]] = {}

    def __call__(self, stage: str, workspace: Workspace, *_: Any, report: Callable[[Progress], None], **__: Any) -> Any:
        self.called.append(stage)
        report(Progress(stage, 1, 0, 4, 2.0, 1.5))
        endings = self.endings.get(stage) or [outcome(stage)]
        ending = endings.pop(0) if len(endings) > 1 else endings[0]
        if isinstance(ending, Exception):
            raise ending
        return ending


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    import flows.stages as wrapped

    stand_in = Stages()
    monkeypatch.setattr(wrapped, "run_stage", stand_in)
    monkeypatch.setattr(wrapped, "load_stage", lambda name: name)
    monkeypatch.setattr(
        wrapped, "RULES", {name: wrapped.Rule(rule.retries, 0, "") for name, rule in wrapped.RULES.items()}
    )
    monkeypatch.setattr("flows.artifacts.contact_sheet", lambda *_: None)
    monkeypatch.setattr("flows.artifacts.open_upstream", lambda *_: None)
    return stand_in


class Run:
    """A finished run of the flow, and what the server knows of it."""

    def __init__(self, api: str, workspace: Workspace, **parameters: Any) -> None:
        from flows.distill import Until, distill

        until = Until(parameters.pop("until", "views"))
        self.state = distill(str(workspace.root), until=until, return_state=True, **parameters)
        self.id = str(self.state.state_details.flow_run_id)
        self.api = api

    def task_states(self, num: int) -> dict[str, str]:
        """The state's name by stage, once the server has been told how this many ended: it hears of it by events."""
        names: dict[str, str] = {}

        def all_ended() -> bool:
            tasks = post(f"{self.api}/task_runs/filter", {"flow_runs": {"id": {"any_": [self.id]}}})
            names.clear()
            names.update({task["name"]: task["state_name"] for task in tasks})
            return sum(task["state_type"] in ("COMPLETED", "FAILED") for task in tasks) == num

        wait_until(all_ended, every_s=0.1)
        return names


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "w")


def test_a_stage_with_nothing_to_compute_ends_in_the_state_cached(
    prefect_api: str, stages: Stages, workspace: Workspace
) -> None:
    stages.endings["ingest"] = [outcome("ingest", computed=0)]
    run = Run(prefect_api, workspace)
    assert run.state.is_completed()
    assert run.task_states(2) == {"ingest": "Cached", "views": "Completed"}


def test_a_crash_is_retried_and_the_stages_after_it_run(prefect_api: str, stages: Stages, workspace: Workspace) -> None:
    stages.endings["ingest"] = [RuntimeError("a bug"), outcome("ingest")]
    run = Run(prefect_api, workspace)
    assert run.state.is_completed()
    assert stages.called == ["ingest", "ingest", "views"]


@pytest.mark.parametrize(
    "error", [StageFailed("the disk is full"), HeldByAnother("ingest is held"), ValueError("unknown teacher")]
)
def test_what_a_person_must_mend_is_not_retried(
    prefect_api: str, stages: Stages, workspace: Workspace, error: Exception
) -> None:
    stages.endings["ingest"] = [error]
    run = Run(prefect_api, workspace)
    assert run.state.is_failed()
    assert str(error) in str(run.state.message)
    assert stages.called == ["ingest"]


def test_too_many_failed_items_fail_the_run_and_nothing_after_the_stage_runs(
    prefect_api: str, stages: Stages, workspace: Workspace
) -> None:
    stages.endings["views"] = [outcome("views", exit_code=TOO_MANY_FAILED, exhausted=3)]
    entry = {"id": "a", "label": "shoe-0001", "state": "exhausted", "class": "bad_input", "message": "torn"}
    workspace.artifacts("views").mkdir(parents=True)
    workspace.failures_file("views").write_text(json.dumps([entry]))
    run = Run(prefect_api, workspace, until=ORDER[-1])
    assert run.state.is_failed()
    assert stages.called == ["ingest", "views"]
    assert run.task_states(2)["views"] == "Failed"
    shown = artifacts_of(prefect_api, run.id)
    assert shown["views-progress"]["data"] == 100.0
    table = json.loads(shown["views-failures"]["data"])
    assert table == [{"label": "shoe-0001", "state": "exhausted", "message": "torn", "class": "bad_input"}]
    assert "- **views**: 1 exhausted: torn (shoe-0001)" in shown["summary"]["data"]
    assert "too many" in shown["summary"]["data"]


def test_progress_ends_at_100_with_the_outcome_beside_it(
    prefect_api: str, stages: Stages, workspace: Workspace
) -> None:
    run = Run(prefect_api, workspace, until="ingest")
    bar = artifacts_of(prefect_api, run.id)["ingest-progress"]
    assert (bar["type"], bar["data"]) == ("progress", 100.0)
    assert bar["description"] == outcome("ingest").line()


def test_overrides_are_among_the_runs_parameters(prefect_api: str, stages: Stages, workspace: Workspace) -> None:
    run = Run(prefect_api, workspace, until="ingest", overrides=["views.size_px=64"])
    assert run.state.is_completed()
    assert get(f"{prefect_api}/flow_runs/{run.id}", timeout_s=10)["parameters"]["overrides"] == ["views.size_px=64"]


def test_every_parameter_is_flat_and_described_so_that_the_form_in_the_ui_works() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.distill import distill

    schema = parameter_schema(distill).model_dump()
    assert list(schema["properties"]) == ["workspace", "until", "overrides", "strict", "budget"]
    for name, field in schema["properties"].items():
        assert "anyOf" not in field, name
        assert field["description"], name
    assert schema["definitions"]["Until"]["enum"] == list(ORDER)

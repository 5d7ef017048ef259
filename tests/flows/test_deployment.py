from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml

from flows.deployment import POOL, deploy, deployment_file, find_api, worker_command
from flows.server import get
from tasks.engine.outcome import StageFailed
from tests.support import make_workspace


def test_the_packaged_prefect_yaml_names_a_flow_that_can_be_imported_and_a_schedule_that_is_off() -> None:
    from prefect import Flow

    content = yaml.safe_load(deployment_file().read_text())
    assert content["pull"] == []
    (deployment,) = content["deployments"]
    module, _, name = deployment["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    assert isinstance(flow, Flow)
    assert (flow.name, deployment["name"]) == ("distill", "distill")
    assert set(deployment["parameters"]) <= set(flow.parameters.properties)
    assert deployment["work_pool"]["name"] == POOL
    assert [schedule["active"] for schedule in deployment["schedules"]] == [False]


def test_the_gpu_pool_in_its_comments_is_a_deployment_too() -> None:
    text = deployment_file().read_text()
    block = [line[4:] for line in text.splitlines() if line.startswith("  # ")]
    start = next(index for index, line in enumerate(block) if line.startswith("- name:"))
    (deployment,) = yaml.safe_load("\n".join(block[start:]))
    assert deployment["entrypoint"] == "flows.distill.distill"
    (request,) = deployment["work_pool"]["job_variables"]["container_create_kwargs"]["device_requests"]
    assert request == {"driver": "nvidia", "count": 1, "capabilities": [["gpu"]]}


def test_the_server_is_the_chosen_one_then_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path / "w")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(ValueError, match=r"no Prefect server: start one with `lostwax up`, or name one with --api"):
        find_api(workspace)
    monkeypatch.setenv("PREFECT_API_URL", "http://host:4200/api")
    assert find_api(workspace) == "http://host:4200/api"
    assert find_api(workspace, "http://other:4200/") == "http://other:4200/api"


def test_a_worker_is_started_for_its_pool_by_this_python() -> None:
    assert worker_command("gpu")[1:] == ["-P", "-m", "prefect", "worker", "start", "--pool", "gpu", "--type", "process"]


def test_deploying_twice_leaves_one_deployment_whose_runs_take_this_workspace(prefect_api: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w")
    for _ in range(2):
        assert deploy(workspace, prefect_api, "a-pool") == "distill/distill"
    found = get(f"{prefect_api}/deployments/name/distill/distill", timeout_s=10)
    assert found["parameters"] == {"workspace": str(workspace.root)}
    assert (found["entrypoint"], found["pull_steps"]) == ("flows.distill.distill", [])
    assert found["work_pool_name"] == "a-pool"
    assert [(entry["active"], entry["schedule"]["cron"]) for entry in found["schedules"]] == [(False, "0 2 * * *")]


def test_a_server_that_does_not_answer_is_a_failure_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"no Prefect server answers at http://127.0.0.1:9/api"):
        deploy(make_workspace(tmp_path / "w"), "http://127.0.0.1:9/api")

import pytest
import yaml

from tasks.dvc_yaml import dvc_yaml, merged
from tasks.order import ORDER, load_stage
from tasks.workspace import template

STAGES = yaml.safe_load(template("dvc.yaml").read_text())["stages"]


def names(entries):
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_dvc_has_every_stage_in_order():
    assert list(STAGES) == list(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_command_runs_the_stage(name):
    assert STAGES[name]["cmd"] == f"python -P -m tasks {name}"


@pytest.mark.parametrize("name", ORDER)
def test_dependencies_are_the_upstreams_items_and_nothing_else(name):
    upstreams = load_stage(name).upstreams
    expected = {f"artifacts/{upstream}/items.jsonl" for upstream in upstreams} or {"${ingest.inbox}"}
    if name == "report":  # the page tells of failures, too
        expected |= {f"artifacts/{other}/failures.json" for other in ORDER if other != "report"}
    assert set(STAGES[name]["deps"]) == expected


@pytest.mark.parametrize("name", ORDER)
def test_outputs_persist_and_are_those_of_the_protocol(name):
    stage = load_stage(name)
    files = ("items.jsonl", "shards", "failures.json", "metrics.json", *stage.publishes)
    outs = [*STAGES[name]["outs"], *STAGES[name].get("plots", [])]
    assert set(names(outs)) == {f"artifacts/{name}/{file}" for file in files}
    metrics = STAGES[name].get("metrics", [])
    assert names(metrics) == (["artifacts/evaluate/scores.json"] if name == "evaluate" else [])
    for entry in [*outs, *metrics]:
        assert next(iter(entry.values()))["persist"] is True


@pytest.mark.parametrize("name", ORDER)
def test_params_are_the_stages_own_block_and_versions_and_never_run(name):
    params = STAGES[name]["params"]
    assert name in params
    assert "run" not in params
    versions = next(entry["versions.yaml"] for entry in params if isinstance(entry, dict))
    assert f"stages.{name}" in versions


def test_the_file_is_made_from_the_stages():
    assert template("dvc.yaml").read_text() == dvc_yaml(), "run `python -m tasks.dvc_yaml > dvc.yaml`"


def test_a_users_own_deps_and_stages_outlive_an_update():
    theirs = yaml.safe_load(dvc_yaml())
    theirs["stages"]["publish"] = {"cmd": "rsync", "deps": ["artifacts/report/index.html"]}
    theirs["stages"]["ingest"]["deps"].append("scans.dvc")
    theirs["stages"]["matte"]["deps"] = ["artifacts/gate/items.jsonl"]
    del theirs["stages"]["gate"]
    updated = yaml.safe_load(merged(yaml.safe_dump(theirs)))
    plain = yaml.safe_load(dvc_yaml())
    assert updated["stages"].pop("publish") == theirs["stages"]["publish"]
    assert updated["stages"]["ingest"]["deps"] == ["${ingest.inbox}", "scans.dvc"]
    updated["stages"]["ingest"]["deps"].remove("scans.dvc")
    assert updated == plain
    assert list(updated["stages"]) == list(ORDER)
    with pytest.raises(ValueError, match="no block `stages`"):
        merged("- a list")

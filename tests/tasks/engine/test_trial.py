"""A run with --set is a trial: it is kept by its keys and never becomes what is published."""

from tasks.collections.records import read_items
from tasks.commands.gc import collect
from tasks.engine.outcome import OK
from tasks.engine.trial import begin_trial, trial_of
from tasks.workspace import Workspace
from tests.support import make_workspace, run_task

GENERATED = {"ingest": {"sources": [{"source": "generated", "count": 2}]}}


def published(workspace: Workspace) -> list[str]:
    return sorted(read_items(workspace.items_file("ingest")))


def test_a_trial_leaves_what_is_published_untouched_and_computes_nothing_twice(tmp_path):
    workspace = make_workspace(tmp_path, GENERATED | {"run": {"workers": 1}})
    assert run_task("ingest", workspace).exit_code == OK
    before = {path: path.read_bytes() for path in workspace.artifacts("ingest").glob("*.json*")}
    more = "ingest.sources=[{source: generated, count: 3}]"
    assert "3 done (1 computed)" in run_task("ingest", workspace, "--set", more).stderr
    assert {path: path.read_bytes() for path in workspace.artifacts("ingest").glob("*.json*")} == before
    assert len(published(trial_of(workspace, [more]))) == 3
    assert "3 done (0 computed)" in run_task("ingest", workspace, "--set", more).stderr
    assert "2 done (0 computed)" in run_task("ingest", workspace).stderr

    collected = collect(workspace, "ingest", dry_run=False)
    assert (collected.kept, collected.dropped) == (2, 1)
    assert collected.seconds > 0
    assert "2 done (0 computed)" in run_task("ingest", workspace).stderr


def test_a_trial_begins_with_what_is_published_and_takes_newer_lists_over(tmp_path):
    workspace = make_workspace(tmp_path)
    workspace.artifacts("teach").mkdir(parents=True)
    workspace.items_file("teach").write_bytes(b"first")
    trial = begin_trial(workspace, ["a.b=1"], ["teach"])
    assert trial.items_file("teach").read_bytes() == b"first"
    trial.items_file("teach").write_bytes(b"the trial's")
    assert begin_trial(workspace, ["a.b=1"], ["teach"]).items_file("teach").read_bytes() == b"the trial's"
    workspace.items_file("teach").write_bytes(b"second")
    assert begin_trial(workspace, ["a.b=1"], ["teach"]).items_file("teach").read_bytes() == b"second"
    assert trial_of(workspace, ["a.b=2"]) != trial == trial_of(workspace, ["a.b=1"])
    assert begin_trial(workspace, [], ["teach"]) == workspace

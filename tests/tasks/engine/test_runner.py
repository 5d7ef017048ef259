"""Running a stage: what is computed, what ends how, and what is published."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from tasks.collections.files import file_sha256
from tasks.collections.index import Finished
from tasks.collections.ledger import Attempt, Ledger
from tasks.commands.gc import collect
from tasks.commands.items import retry
from tasks.commands.plan import forecast_stages
from tasks.engine.dispatch import most_workers
from tasks.engine.outcome import FAILED, OK, STOPPED, TOO_MANY_FAILED, Outcome, StageFailed
from tasks.engine.planning import make_recipe, plan_stage, published_failures
from tasks.engine.runner import run_stage
from tasks.engine.stage import Stage
from tasks.engine.standing import status
from tasks.engine.upstreams import planning_context
from tasks.engine.worker import open_upstream
from tasks.params import Params
from tasks.workspace import Workspace
from tests.support import make_workspace
from tests.toy import Echo, Toy, computed, expected_files, fill, item_id, plain


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path)


def run(workspace: Workspace, *, strict=False, deadline=None, report=lambda _: None, **raw) -> Outcome:
    """One run of the toy; raw: blocks of params.yaml."""
    return run_stage(Toy(), workspace, params(**raw), {}, strict=strict, deadline=deadline, report=report)


def echo(workspace: Workspace) -> Outcome:
    """One run of the stage behind the toy."""
    return run_stage(Echo(), workspace, params(), {})


def params(**raw) -> Params:
    raw["run"] = {"workers": 1, "max_failed_share": 1.0} | raw.get("run", {})
    return Params(raw, [Toy(), Echo()])


def failures(workspace: Workspace) -> dict[str, dict]:
    return {entry["label"]: entry for entry in json.loads(workspace.failures_file("toy").read_text())}


def plan(workspace: Workspace, **raw):
    """What a run would do, found without running."""
    held = Finished(workspace.local("toy"), workspace.shards_dir("toy"), file_sha256)
    held.refresh()
    stage, given = Toy(), params(**raw)
    with Ledger(workspace.local("toy")) as ledger:
        recipe = make_recipe(stage, given, {}, workspace, file_sha256)
        known = published_failures(workspace.failures_file("toy")) | ledger.failures()
        context = planning_context(stage, workspace, given, _Digest(), {}, {})
        return plan_stage(stage, context, recipe, held, known, given.run.attempts)


class _Digest:
    digest = staticmethod(file_sha256)


def published(workspace: Workspace) -> bytes:
    return workspace.items_file("toy").read_bytes()


def test_every_item_is_computed_once_and_its_bytes_can_be_read(workspace):
    fill(workspace, plain(10, bytes=5000, files=2))
    first = run(workspace)
    assert (first.exit_code, first.total, first.done, first.computed) == (OK, 10, 10, 10)
    second = run(workspace)
    assert (second.exit_code, second.done, second.computed) == (OK, 10, 0)
    assert len(computed(workspace)) == 10
    upstream = open_upstream(workspace, "toy")
    for name in plain(10):
        for file, data in expected_files(item_id(name), {"bytes": 5000, "files": 2}, "").items():
            assert upstream.read(item_id(name), file) == data


def test_equal_inputs_publish_equal_bytes_whatever_the_workers_and_chunks(tmp_path):
    outputs = []
    for index, settings in enumerate(({"workers": 1, "chunk": 1}, {"workers": 3, "chunk": 4})):
        workspace = make_workspace(tmp_path / str(index))
        fill(workspace, plain(12))
        run(workspace, run=settings)
        outputs.append((published(workspace), workspace.metrics_file("toy").read_bytes()))
    assert outputs[0] == outputs[1]


def test_a_run_with_nothing_to_do_writes_nothing_that_dvc_tracks(workspace):
    fill(workspace, plain(3) | {"bad": {"acts": ["raise"]}})
    run(workspace)
    files = sorted(path for path in workspace.artifacts("toy").rglob("*") if path.is_file() and path.name[0] != ".")
    before = [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in files]
    run(workspace)
    assert [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in files] == before


def test_the_plan_is_what_the_run_computes_and_changed_back_computes_nothing(workspace):
    fill(workspace, plain(6))
    assert len(plan(workspace).pending) == run(workspace).computed == 6
    before = published(workspace)
    fill(workspace, {"item00002": {"bytes": 10}, "new": {}})
    planned = plan(workspace)
    assert {task.label for task in planned.pending} == {"item00002", "new"}
    assert planned.stale == {item_id("item00002")}
    assert run(workspace).computed == 2
    assert len(plan(workspace, toy={"salt": "x"}).pending) == run(workspace, toy={"salt": "x"}).computed == 7
    (workspace.root / "inbox" / "new.json").unlink()
    fill(workspace, plain(6))
    assert plan(workspace).pending == []
    assert run(workspace).computed == 0
    assert published(workspace) == before


def test_run_params_do_not_enter_the_key_and_stage_params_do(workspace):
    fill(workspace, plain(2))
    run(workspace)
    other_run = {"workers": 2, "chunk": 1, "log_level": "debug", "item_time_limit_s": 5, "max_failed_share": 0.5}
    assert plan(workspace, run=other_run).pending == []
    assert len(plan(workspace, toy={"salt": "x"}).pending) == 2


def test_versions_and_weights_enter_the_key(workspace, tmp_path):
    class Weighted(Toy):
        def weights(self, params, workspace):
            return [workspace / "net.safetensors"]

    def recipe(stage=Weighted(), versions=None):  # noqa: B008
        return make_recipe(stage, params(), versions or {}, workspace, file_sha256).name

    names = [recipe(Toy()), recipe(), recipe(versions={"toy": 2})]
    (workspace.root / "net.safetensors").write_bytes(b"1")
    names.append(recipe())
    (workspace.root / "net.safetensors").write_bytes(b"2")
    names.append(recipe())
    assert len(set(names)) == len(names)
    assert recipe(versions={"toy": 1, "views": 9}) == recipe()


def test_a_list_that_is_not_what_was_published_is_refused_with_the_remedy(workspace):
    fill(workspace, plain(3))
    run(workspace)
    path, whole = workspace.items_file("toy"), published(workspace)
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    with pytest.raises(StageFailed, match=r"items\.jsonl is not what toy published.*`lostwax run --until toy`"):
        echo(workspace)
    assert run(workspace).computed == 0
    assert published(workspace) == whole
    assert echo(workspace).done == 3


def test_gc_drops_nothing_by_a_list_that_is_not_what_was_published(workspace):
    fill(workspace, plain(3))
    run(workspace)
    path = workspace.items_file("toy")
    path.write_bytes(published(workspace).splitlines(keepends=True)[0])
    with pytest.raises(StageFailed, match=r"items\.jsonl is not what toy published"):
        collect(workspace, "toy", dry_run=False)
    assert run(workspace).computed == 0


def test_a_list_that_dvc_lock_names_is_taken_whatever_was_published_here(workspace):
    fill(workspace, plain(3))
    run(workspace)
    fewer = b"".join(published(workspace).splitlines(keepends=True)[:2])
    workspace.items_file("toy").write_bytes(fewer)
    record_in_dvc(workspace, workspace.items_file("toy"))
    assert echo(workspace).done == 2


def test_a_list_that_came_from_elsewhere_is_taken_as_it_is(workspace):
    fill(workspace, plain(3))
    run(workspace)
    shutil.rmtree(workspace.root / ".lostwax")
    workspace.items_file("toy").write_bytes(published(workspace).splitlines(keepends=True)[0])
    assert echo(workspace).done == 1


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[400:], lambda data: b"\0" * 3000])
def test_a_damaged_list_is_named_and_published_anew(workspace, damage):
    fill(workspace, plain(9))
    run(workspace)
    whole = published(workspace)
    shutil.rmtree(workspace.root / ".lostwax")
    workspace.items_file("toy").write_bytes(damage(whole))
    with pytest.raises(StageFailed, match=r"items\.jsonl is damaged at byte \d+; `lostwax run --until toy`"):
        echo(workspace)
    assert run(workspace).computed == 0
    assert published(workspace) == whole


def test_a_deleted_shard_is_taken_from_dvcs_cache(workspace, caplog):
    fill(workspace, plain(3))
    run(workspace)
    (shard,) = workspace.shards_dir("toy").iterdir()
    record_in_dvc(workspace, shard)
    content = shard.read_bytes()
    shard.unlink()
    outcome = run(workspace)
    assert (outcome.done, outcome.computed) == (3, 0)
    assert shard.read_bytes() == content
    assert f"{shard} is taken from DVC's cache" in caplog.text


def test_what_gc_dropped_is_not_taken_from_dvcs_cache(workspace):
    fill(workspace, plain(3))
    run(workspace)
    (old,) = workspace.shards_dir("toy").iterdir()
    record_in_dvc(workspace, old)
    run(workspace, toy={"salt": "x"})
    collect(workspace, "toy", dry_run=False)
    assert not old.exists()
    fill(workspace, plain(4))
    assert run(workspace, toy={"salt": "x"}).computed == 1
    assert not old.exists()


def test_damage_that_dvcs_copy_shares_is_made_anew_and_the_copy_is_dropped(workspace, caplog):
    fill(workspace, plain(3))
    run(workspace)
    (shard,) = workspace.shards_dir("toy").iterdir()
    copy = record_in_dvc(workspace, shard)
    damage_an_item_of(shard, item_id("item00001"))
    assert copy.read_bytes() == shard.read_bytes()
    assert run(workspace).computed == 1
    assert not copy.exists()
    assert f"DVC's copy of {shard} was damaged, too, and is removed" in caplog.text
    assert not shard.exists()


def test_a_damaged_shard_is_replaced_by_dvcs_copy_where_that_is_whole(workspace):
    fill(workspace, plain(3))
    run(workspace)
    (shard,) = workspace.shards_dir("toy").iterdir()
    copy = record_in_dvc(workspace, shard)
    content = copy.read_bytes()
    copy.unlink()
    copy.write_bytes(content)  # as where the cache is on another file system
    damage_an_item_of(shard, item_id("item00001"))
    outcome = run(workspace)
    assert (outcome.done, outcome.computed) == (3, 0)
    assert shard.read_bytes() == content


def test_a_published_list_that_is_mended_leaves_no_damaged_copy_in_dvcs_cache(workspace):
    fill(workspace, plain(3))
    run(workspace)
    path, whole = workspace.items_file("toy"), published(workspace)
    copy = record_in_dvc(workspace, path)
    path.write_bytes(whole[:100])
    assert copy.read_bytes() == whole[:100]
    assert run(workspace).computed == 0
    assert published(workspace) == whole
    assert not copy.exists()


def record_in_dvc(workspace: Workspace, path: Path) -> Path:
    """Have dvc.lock name a file, as part of its folder if that is an output, and link it to a copy; the copy."""
    digest, cache = hashlib.md5(path.read_bytes()).hexdigest(), workspace.root / ".dvc" / "cache" / "files" / "md5"
    copy = cache / digest[:2] / digest[2:]
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.hardlink_to(path)
    output = {"path": str(path.relative_to(workspace.root)), "md5": digest}
    if path.suffix == ".tar":
        listing = json.dumps([{"md5": digest, "relpath": path.name}]).encode()
        folder = hashlib.md5(listing).hexdigest()
        (cache / folder[:2]).mkdir(exist_ok=True)
        (cache / folder[:2] / f"{folder[2:]}.dir").write_bytes(listing)
        output = {"path": str(path.parent.relative_to(workspace.root)), "md5": f"{folder}.dir"}
    lock = {"schema": "2.0", "stages": {"toy": {"cmd": "toy", "outs": [output]}}}
    (workspace.root / "dvc.lock").write_text(yaml.safe_dump(lock))
    return copy


def damage_an_item_of(shard: Path, item: str) -> None:
    """Change a byte of an item in place, whoever else links to the file."""
    shard.chmod(0o644)
    descriptor = os.open(shard, os.O_RDWR)
    os.pwrite(descriptor, b"?", shard.read_bytes().index(expected_files(item, {}, "")["out0.bin"]))
    os.close(descriptor)


@pytest.mark.parametrize("content", ["", '[{"id": "a", ', '{"a": 1}', '[{"id": 1}]'])
def test_a_damaged_failures_file_is_said_and_written_anew(workspace, caplog, content):
    fill(workspace, plain(2) | {"bad": {"acts": ["raise"]}})
    run(workspace)
    path = workspace.failures_file("toy")
    whole = path.read_bytes()
    path.write_text(content)
    (standing,) = status(workspace, ["toy"])
    assert (standing.failures, standing.items["exhausted"]) == ({}, 1)
    assert f"{path} is damaged; `lostwax run --until toy` writes it anew" in caplog.text
    assert run(workspace).exhausted == 1
    assert path.read_bytes() == whole


def test_damaged_metrics_are_said_and_written_anew(workspace, caplog):
    fill(workspace, plain(2))
    run(workspace)
    path = workspace.metrics_file("toy")
    whole = path.read_bytes()
    path.write_text("{")
    (standing,) = status(workspace, ["toy"])
    assert standing.items == {}
    assert f"{path} is damaged" in caplog.text
    run(workspace)
    assert path.read_bytes() == whole


def test_retry_knows_from_the_ledger_what_failed_where_failures_json_is_damaged(workspace):
    fill(workspace, plain(1) | {"bad": {"acts": ["bad_input", "ok"]}, "worse": {"acts": ["raise"]}})
    run(workspace)
    workspace.failures_file("toy").write_text("[")
    assert retry(workspace, "toy", "bad_input") == 1
    outcome = run(workspace)
    assert (outcome.done, outcome.exhausted) == (2, 1)


def test_items_of_a_deleted_shard_are_computed_again(workspace):
    fill(workspace, plain(3))
    run(workspace)
    before = published(workspace)
    for shard in workspace.shards_dir("toy").iterdir():
        shard.unlink()
    assert run(workspace).computed == 3
    assert published(workspace) == before


def test_a_damaged_shard_costs_only_the_items_whose_bytes_are_wrong(workspace):
    fill(workspace, plain(8))
    run(workspace)
    before = published(workspace)
    (shard,) = workspace.shards_dir("toy").iterdir()
    data = bytearray(shard.read_bytes())
    data[data.index(expected_files(item_id("item00003"), {}, "")["out0.bin"])] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    assert run(workspace).computed == 1
    assert computed(workspace)[8:] == [pair for pair in computed(workspace) if pair[0] == item_id("item00003")][1:]
    assert published(workspace) == before


def test_without_its_local_state_a_collection_is_adopted_and_nothing_computed(workspace):
    fill(workspace, plain(4) | {"bad": {"acts": ["bad_input"]}})
    run(workspace)
    shutil.rmtree(workspace.root / ".lostwax")
    outcome = run(workspace)
    assert (outcome.computed, outcome.done, outcome.exhausted) == (0, 4, 1)
    assert len(computed(workspace)) == 4


@pytest.mark.parametrize(
    ("act", "failure_class", "attempts", "message"),
    [
        ("raise", "error", 2, "RuntimeError: told to raise"),
        ("bad_input", "bad_input", 1, "told to be bad"),
        ("empty", "empty_output", 1, "told to be empty"),
        ("nan", "empty_output", 1, "quality.score is nan"),
        ("exit", "error", 2, "SystemExit: 0"),
        ("memory", "oom_host", 2, "MemoryError"),
        ("unreadable", "error", 2, "PermissionError"),
    ],
)
def test_a_bad_item_fails_alone_with_class_message_and_attempts(workspace, act, failure_class, attempts, message):
    fill(workspace, plain(3) | {"bad": {"acts": [act]}})
    outcome = run(workspace)
    assert (outcome.exit_code, outcome.done, outcome.exhausted) == (OK, 3, 1)
    entry = failures(workspace)["bad"]
    assert (entry["state"], entry["class"], entry["attempts"]) == ("exhausted", failure_class, attempts)
    assert message in entry["message"]
    again = run(workspace)
    assert (again.computed, again.exhausted) == (0, 1)


def test_an_item_that_fails_once_is_done_at_its_second_attempt_and_goes_last(workspace):
    fill(workspace, {"a_first": {"acts": ["raise", "ok"]}} | plain(5))
    assert run(workspace, run={"chunk": 1}).done == 6
    assert computed(workspace)[-1][0] == item_id("a_first")


def test_attempts_are_budgets_in_params(workspace):
    fill(workspace, {"a": {"acts": ["raise", "raise", "raise", "ok"]}})
    assert run(workspace, run={"attempts": {"error": 3}}).exhausted == 1
    assert run(workspace, run={"attempts": {"error": 4}}).done == 1


def test_skipped_items_are_said_and_count_as_neither_done_nor_failed(workspace):
    fill(workspace, plain(2) | {"photo": {"skip": "it has no cameras"}})
    outcome = run(workspace, strict=True)
    assert (outcome.exit_code, outcome.done, outcome.skipped) == (OK, 2, 1)
    assert failures(workspace)["photo"]["message"] == "it has no cameras"


def test_where_every_item_is_skipped_the_stage_and_the_next_one_say_why(workspace):
    class After(Toy):
        name = "after"
        upstreams = ("toy",)
        wanted = Stage.wanted

    photos = {f"photo{index}": {"skip": "it has no cameras"} for index in range(3)}
    fill(workspace, photos | {"odd": {"skip": "it is odd"}})
    outcome = run(workspace)
    assert (outcome.exit_code, outcome.message) == (OK, "it has no cameras")
    told = "after: nothing to do: toy has no items for it: 3 items skipped: it has no cameras"
    with pytest.raises(StageFailed, match=told):
        run_stage(After(), workspace, Params({}, [Toy(), After()]), {})


def test_blocked_items_are_charged_nothing_and_tried_again_by_the_next_run(workspace):
    fill(workspace, plain(2) | {"photo": {"acts": ["unavailable", "ok"]}})
    outcome = run(workspace, strict=True)
    assert (outcome.exit_code, outcome.done, outcome.blocked) == (OK, 2, 1)
    assert failures(workspace)["photo"]["state"] == "blocked"
    assert "install nothing" in failures(workspace)["photo"]["message"]
    with Ledger(workspace.local("toy")) as ledger:
        assert ledger.failures() == {}
    assert (run(workspace).done, run(workspace).blocked) == (3, 0)


def test_what_is_published_of_a_failure_does_not_hold_the_place_of_the_workspace(workspace):
    path = workspace.root / "inbox" / "photo.png"
    fill(workspace, plain(2) | {"photo": {"skip": f"{path} cannot be read"}})
    run(workspace)
    assert failures(workspace)["photo"]["message"] == "inbox/photo.png cannot be read"


def test_the_plan_says_that_items_were_blocked(workspace):
    fill(workspace, plain(2) | {"photo": {"acts": ["unavailable", "ok"]}})
    run(workspace)
    (forecast,) = forecast_stages(workspace, params(), {}, [Toy()])
    assert (forecast.fresh, forecast.missing) == (2, 1)
    assert forecast.why == ["1 blocked last time: told to be unavailable; install nothing"]


def test_blocked_items_are_told_with_their_reasons(workspace):
    blocked = {f"photo{index}": {"acts": ["unavailable"]} for index in range(5)}
    fill(workspace, plain(2) | blocked)
    assert run(workspace).message == (
        "photo0, photo1, photo2 and 2 more blocked: told to be unavailable; install nothing"
    )


class Product(Toy):
    product = True


def test_a_product_that_failed_tells_its_cause(workspace):
    fill(workspace, {"big": {"acts": ["raise"]}})
    outcome = run_stage(Product(), workspace, params(), {})
    assert outcome.exit_code == TOO_MANY_FAILED
    assert outcome.message == (
        f"{item_id('big')}: error: RuntimeError: told to raise; mend that, then `lostwax retry toy` and run again"
    )


def test_a_blocked_item_leaves_the_plan_of_later_stages_exact(workspace):
    fill(workspace, plain(2) | {"photo": {"acts": ["unavailable"]}})
    run(workspace)
    echo(workspace)
    toy, later = forecast_stages(workspace, params(), {}, [Toy(), Echo()])
    assert (toy.fresh, toy.missing) == (2, 1)
    assert (later.fresh, later.missing, later.exact) == (2, 0, True)
    fill(workspace, {"photo": {"acts": ["ok"]}})  # other inputs: it may not be blocked again
    _, later = forecast_stages(workspace, params(), {}, [Toy(), Echo()])
    assert (later.missing, later.exact) == (1, False)


def test_items_that_were_all_blocked_may_all_come_to_later_stages(workspace):
    fill(workspace, plain(3))
    run(workspace, toy={"start": "unavailable"})
    _, later = forecast_stages(workspace, params(), {}, [Toy(), Echo()])
    assert (later.missing, later.exact) == (3, False)


def test_a_stage_that_cannot_be_planned_ends_the_plan_with_its_reason(workspace):
    class Refusing(Echo):
        def wanted(self, context):
            raise ValueError("none of the 3 items is in the test split")

    fill(workspace, plain(3))
    run(workspace)
    toy, refusing = forecast_stages(workspace, params(), {}, [Toy(), Refusing(), Echo()])
    assert (toy.fresh, toy.exact) == (3, True)
    assert refusing.why == ["cannot be planned: none of the 3 items is in the test split"]


def test_a_stage_whose_every_item_is_blocked_fails_with_the_reason(workspace):
    fill(workspace, plain(3))
    outcome = run(workspace, toy={"start": "unavailable"}, run={"workers": 2})
    assert (outcome.exit_code, outcome.blocked) == (FAILED, 3)
    assert "install nothing" in outcome.message
    assert run(workspace).done == 3


def test_a_stage_that_cannot_start_for_its_pending_items_fails_and_keeps_what_it_holds(workspace):
    fill(workspace, plain(3))
    run(workspace)
    fill(workspace, {"new": {}})
    outcome = run(workspace, toy={"start": "unavailable"})
    assert (outcome.exit_code, outcome.done, outcome.blocked) == (FAILED, 3, 1)


def test_too_many_failures_and_strictness_make_exit_code_3(workspace):
    fill(workspace, plain(7) | {f"bad{index}": {"acts": ["bad_input"]} for index in range(3)})
    outcome = run(workspace, run={"max_failed_share": 0.25})
    assert (outcome.exit_code, outcome.exhausted) == (TOO_MANY_FAILED, 3)
    assert "3 items failed (30%; run.max_failed_share allows 25%)" in outcome.message
    within = run(workspace, run={"max_failed_share": 0.3})
    assert within.exit_code == OK
    assert "3 items failed" in within.message
    assert run(workspace, strict=True).exit_code == TOO_MANY_FAILED
    assert len(published(workspace).splitlines()) == 7


def test_retry_opens_exhausted_items_of_one_class(workspace):
    fill(workspace, {"bad": {"acts": ["bad_input", "ok"]}, "worse": {"acts": ["raise"]}, "good": {}})
    run(workspace)
    with pytest.raises(ValueError, match="there are: bad_input, error"):
        retry(workspace, "toy", "killed")
    assert retry(workspace, "toy", "bad_input") == 1
    outcome = run(workspace)
    assert (outcome.computed, outcome.exhausted) == (1, 1)
    assert set(failures(workspace)) == {"worse"}


def test_nothing_wanted_is_an_error_that_says_so(workspace):
    with pytest.raises(StageFailed, match="nothing to do"):
        run(workspace)


def test_an_id_that_is_wanted_twice_is_refused(workspace):
    class Doubled(Toy):
        def wanted(self, context):
            yield from super().wanted(context)
            yield from super().wanted(context)

    fill(workspace, plain(1))
    with pytest.raises(StageFailed, match="is there twice"):
        run_stage(Doubled(), workspace, params(), {})


def test_a_budget_stops_the_stage_and_keeps_what_is_finished(workspace):
    fill(workspace, plain(4))
    outcome = run(workspace, deadline=0.0)
    assert (outcome.exit_code, outcome.computed) == (STOPPED, 0)
    assert "resumes" in outcome.message
    assert run(workspace).done == 4


def test_progress_ends_with_everything_done(workspace):
    fill(workspace, plain(3) | {"bad": {"acts": ["bad_input"]}})
    seen = []
    run(workspace, report=seen.append)
    assert (seen[-1].done, seen[-1].failed, seen[-1].total, seen[-1].left_s) == (3, 1, 4, 0)


def test_interrupted_items_come_last_and_end_exhausted_at_their_budget(workspace):
    fill(workspace, plain(3))
    pending = {task.label: task for task in plan(workspace).pending}
    first = pending["item00000"]
    with Ledger(workspace.local("toy")) as ledger:
        ledger.add([Attempt(first.id, first.key, "interrupted")] * 9)
    assert [task.label for task in plan(workspace).pending] == ["item00001", "item00002", "item00000"]
    with Ledger(workspace.local("toy")) as ledger:
        ledger.add([Attempt(first.id, first.key, "interrupted")])
    assert set(plan(workspace).exhausted) == {first.id}


def test_a_product_may_be_interrupted_for_ever(workspace):
    fill(workspace, plain(1))
    (task,) = plan(workspace).pending
    with Ledger(workspace.local("toy")) as ledger:
        ledger.add([Attempt(task.id, task.key, "interrupted")] * 50)
        held = Finished(workspace.local("toy"), workspace.shards_dir("toy"), None)
        context = planning_context(Product(), workspace, params(), _Digest(), {}, {})
        recipe = make_recipe(Product(), params(), {}, workspace, file_sha256)
        planned = plan_stage(Product(), context, recipe, held, ledger.failures(), params().run.attempts)
    assert planned.exhausted == {}
    assert len(planned.pending) == 1


def test_work_in_progress_of_a_finished_item_is_removed(workspace):
    fill(workspace, plain(1))
    (task,) = plan(workspace).pending
    work = workspace.local("toy") / "work" / f"{task.id}-{task.key[:16]}"
    work.mkdir(parents=True)
    (work / "checkpoint").write_bytes(b"1")
    run(workspace)
    assert not work.exists()


def test_gc_drops_superseded_items_and_nothing_that_is_published(workspace):
    fill(workspace, plain(5))
    run(workspace)
    run(workspace, toy={"salt": "x"})
    before = published(workspace)
    foreseen = collect(workspace, "toy", dry_run=True)
    assert (foreseen.kept, foreseen.dropped) == (5, 5)
    collect(workspace, "toy", dry_run=False)
    assert len(list(workspace.shards_dir("toy").iterdir())) == 1
    assert run(workspace, toy={"salt": "x"}).computed == 0
    assert published(workspace) == before
    assert collect(workspace, "toy", dry_run=False).dropped == 0
    assert run(workspace).computed == 5


def test_a_stopped_run_charges_nobody_and_gc_keeps_what_it_has_finished(workspace, monkeypatch):
    monkeypatch.setattr("tasks.engine.dispatch.STOP_GRACE_S", 0.2)
    fill(workspace, plain(3))
    run(workspace)
    fill(workspace, plain(6) | {"stopper": {"acts": ["stop_the_run", "ok"]}})
    outcome = run(workspace, run={"chunk": 1})
    assert (outcome.exit_code, outcome.computed) == (STOPPED, 3)
    assert outcome.message == "stopped by SIGTERM; the same command resumes"
    with Ledger(workspace.local("toy")) as ledger:
        assert ledger.failures() == {}
    assert collect(workspace, "toy", dry_run=False).kept == 6
    resumed = run(workspace)
    assert (resumed.exit_code, resumed.done, resumed.computed) == (OK, 7, 1)


def test_a_ledger_that_is_no_database_is_set_aside_and_begun_anew(workspace, caplog):
    fill(workspace, plain(1) | {"bad": {"acts": ["bad_input"]}})
    run(workspace)
    path = workspace.local("toy") / "ledger.db"
    path.write_bytes(b"no database" * 1000)
    outcome = run(workspace)
    assert (outcome.done, outcome.computed, outcome.exhausted) == (1, 0, 1)
    assert "ledger.db was damaged (file is not a database) and is now ledger.db.damaged" in caplog.text
    assert path.with_name("ledger.db.damaged").read_bytes().startswith(b"no database")


@pytest.mark.parametrize("name", ["ledger.db", "files.db"])
def test_a_database_that_turns_out_to_be_damaged_during_a_run_is_begun_anew_by_it(workspace, caplog, name):
    fill(workspace, plain(200))
    run(workspace)
    path = workspace.stat_cache_file if name == "files.db" else workspace.local("toy") / name
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:4096] + bytes([0xFF]) * half + data[4096 + half :])
    fill(workspace, plain(220))
    outcome = run(workspace)
    assert (outcome.done, outcome.computed, outcome.exit_code) == (220, 20, OK)
    assert f"{name} was damaged" in caplog.text
    caplog.clear()
    assert run(workspace).computed == 0
    assert "damaged" not in caplog.text


@pytest.mark.parametrize(
    ("setting", "num_gpus", "num_workers"),
    [({}, 3, 3), ({"workers": 2}, 3, 2), ({"workers": 8}, 3, 3), ({"device": "cuda:1"}, 3, 1), ({"workers": 5}, 0, 4)],
)
def test_a_stage_that_uses_gpus_has_one_worker_for_each(monkeypatch, setting, num_gpus, num_workers):
    class OnGpu(Toy):
        def uses_gpu(self, params):
            return True

    monkeypatch.setattr("tasks.engine.dispatch.num_gpus", lambda: num_gpus)
    monkeypatch.setattr("tasks.engine.dispatch.num_cores", lambda: 4)
    run_params = Params({"run": setting}, [Toy()])
    assert most_workers(OnGpu(), run_params) == num_workers
    assert most_workers(Toy(), run_params) == min(4, setting.get("workers", 4))


def test_a_stage_whose_items_all_fail_stops_early_and_says_with_what(workspace):
    fill(workspace, plain(200, acts=["raise"]))
    outcome = run(workspace)
    assert outcome.exit_code == TOO_MANY_FAILED
    assert "30 of the last 30 new items failed (30 error), over run.stop_at_failed_share" in outcome.message
    assert "told to raise" in outcome.message
    tried = len(list((workspace.root / "tries").iterdir()))
    assert 30 <= tried < 200
    assert not workspace.items_file("toy").is_file()
    again = run(workspace, run={"stop_at_failed_share": 1.0})
    assert (again.exit_code, again.exhausted) == (OK, 200)


def test_failed_items_that_are_tried_again_in_a_row_do_not_stop_the_stage(workspace):
    fill(workspace, plain(100) | {f"bad{index:02d}": {"acts": ["raise"]} for index in range(14)})
    outcome = run(workspace)
    assert (outcome.exit_code, outcome.done, outcome.exhausted) == (OK, 100, 14)
    fill(workspace, {f"worse{index:02d}": {"acts": ["raise"]} for index in range(14)})
    assert run(workspace).exhausted == 28

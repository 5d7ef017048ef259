"""SIGKILL at any moment: nothing finished is lost, torn or computed twice, and every run comes to an end."""

import json
import random
import time

import pytest

from benchmarks import engine
from tasks.collections.holder import holder
from tasks.engine.outcome import OK
from tasks.engine.worker import open_upstream
from tests.faults.evidence import Storm, finished_items, held_twice, nobody_works, workers_of
from tests.support import Running, make_workspace, run_module, wait_until
from tests.toy import computed, expected_files, fill, item_id, plain


def toy(workspace):
    return Running("tests.toy", workspace.root)


def assert_whole(workspace, scripts):
    """Every item is published with the right bytes, once."""
    upstream = open_upstream(workspace, "toy")
    assert set(upstream.records) == {item_id(name) for name in scripts}
    for name, script in scripts.items():
        for file, data in expected_files(item_id(name), script, "").items():
            assert upstream.read(item_id(name), file) == data, name
    assert held_twice(workspace, "toy") == []


def num_files(workspace):
    return sum(path.is_file() for name in ("artifacts", ".lostwax") for path in (workspace.root / name).rglob("*"))


def brave_the_storm(workspace, seed, num_items, num_kills, within_s):
    scripts = plain(num_items, seconds=0.01, bytes=20_000, files=2)
    fill(workspace, scripts)
    storm = Storm(workspace, lambda: toy(workspace), seed)
    while storm.num_kills < num_kills and storm.kill(within_s):
        pass
    ended = storm.finish()
    assert ended.exit_code == OK, ended.stderr
    assert ended.outcome["exhausted"] == 0
    assert_whole(workspace, scripts)
    assert storm.num_kills == num_kills
    assert num_files(workspace) <= 20 + 3 * num_kills


def test_kills_of_the_whole_group_lose_and_repeat_nothing(tmp_path):
    brave_the_storm(make_workspace(tmp_path, {}), seed=1, num_items=300, num_kills=4, within_s=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_fifty_kills_of_the_whole_group_lose_and_repeat_nothing(tmp_path, seed):
    brave_the_storm(make_workspace(tmp_path, {}), seed=seed, num_items=4000, num_kills=50, within_s=0.6)


def kill_at_the_end(workspace, seed, num_rounds):
    """Rounds of few items each, killed around the sealing of the spool and the publishing of the records."""
    rng, scripts = random.Random(seed), {}
    for index in range(num_rounds):
        scripts |= {f"round{index:03d}-{name}": {"bytes": 3000} for name in plain(5)}
        fill(workspace, scripts)
        running = toy(workspace)
        before = len(computed(workspace))
        while running.alive and len(computed(workspace)) < before + 5:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.15))
        running.kill_all()
        wait_until(lambda: nobody_works(workspace, "toy"))
    ended = toy(workspace).wait()
    assert ended.exit_code == OK, ended.stderr
    assert_whole(workspace, scripts)
    repeated = len(computed(workspace)) - len(scripts)
    assert repeated <= 2 * num_rounds  # an item whose record was not yet whole: one a worker


def test_kills_while_sealing_and_publishing_leave_a_collection_that_the_next_run_completes(tmp_path):
    kill_at_the_end(make_workspace(tmp_path, {}), seed=4, num_rounds=4)


@pytest.mark.slow
def test_many_kills_while_sealing_and_publishing(tmp_path):
    kill_at_the_end(make_workspace(tmp_path, {}), seed=5, num_rounds=50)


def test_killed_workers_are_replaced_and_only_what_they_had_in_hand_is_repeated(tmp_path):
    workspace = make_workspace(tmp_path, {"run": {"attempts": {"killed": 5}}})
    fill(workspace, plain(200, seconds=0.01))
    running, rng, num_kills = toy(workspace), random.Random(6), 0
    wait_until(lambda: computed(workspace))
    while num_kills < 4 and running.alive:
        time.sleep(rng.uniform(0, 0.2))
        for worker in workers_of(running)[:1]:
            worker.kill()
            num_kills += 1
    ended = running.wait()
    assert ended.exit_code == OK, ended.stderr
    assert (ended.outcome["computed"], ended.outcome["exhausted"]) == (200, 0)
    assert 200 <= len(computed(workspace)) <= 200 + num_kills
    assert held_twice(workspace, "toy") == []


def test_workers_die_with_their_run_and_their_work_is_recovered(tmp_path):
    workspace = make_workspace(tmp_path, {})
    fill(workspace, plain(200, seconds=0.02))
    running = toy(workspace)
    wait_until(lambda: len(computed(workspace)) > 20)
    workers = workers_of(running)
    running.popen.kill()
    running.popen.wait()
    wait_until(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers), 10)
    running.kill_all()
    finished = len(finished_items(workspace, "toy"))
    assert finished >= 18
    ended = toy(workspace).wait()
    assert ended.exit_code == OK
    assert ended.outcome["done"] == 200
    assert ended.outcome["computed"] == 200 - finished
    assert ended.outcome["recovered"] <= finished, "those that the first run had not written down yet"
    assert len(computed(workspace)) <= 202


def test_an_item_that_takes_the_whole_run_down_every_time_ends_exhausted(tmp_path):
    workspace = make_workspace(tmp_path, {"run": {"workers": 1, "max_failed_share": 1, "attempts": {"interrupted": 3}}})
    fill(workspace, plain(3) | {"a_bomb": {"acts": ["kill_the_run"]}})
    exits = [toy(workspace).wait().exit_code for _ in range(4)]
    assert exits == [-9, -9, -9, OK]
    (entry,) = json.loads(workspace.failures_file("toy").read_text())
    assert (entry["label"], entry["class"], entry["attempts"]) == ("a_bomb", "interrupted", 3)
    assert len(computed(workspace)) == 3


def kill_the_collector(workspace, seed, num_kills):
    rng, salts = random.Random(seed), ("one", "two")
    fill(workspace, plain(200, bytes=5000))
    for index in range(num_kills):
        (workspace.root / "params.yaml").write_text(f"toy: {{salt: {salts[index % 2]}}}\n")
        assert run_module("tests.toy", workspace.root).exit_code == OK
        before = workspace.items_file("toy").read_bytes()
        collector = Running("tests.faults.collector", workspace.root)
        while collector.alive and holder(workspace.local("toy"), workspace.artifacts("toy")) is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.06))
        collector.kill_all()
        again = run_module("tests.toy", workspace.root)
        assert (again.exit_code, again.outcome["computed"]) == (OK, 0), again.stderr
        assert workspace.items_file("toy").read_bytes() == before
    assert run_module("tests.faults.collector", workspace.root).exit_code == 0
    assert held_twice(workspace, "toy") == []


def test_a_kill_during_gc_loses_nothing_published(tmp_path):
    kill_the_collector(make_workspace(tmp_path, {}), seed=7, num_kills=2)


@pytest.mark.slow
def test_many_kills_during_gc_lose_nothing_published(tmp_path):
    kill_the_collector(make_workspace(tmp_path, {}), seed=8, num_kills=20)


@pytest.mark.slow
def test_ten_thousand_items_and_forty_kills(tmp_path):
    figures = engine.measure(10_000, 40, tmp_path)
    assert figures["kills_at_work"] == 40
    assert (figures["computed_twice"], figures["wrong_after_kills"]) == (0, 0)
    assert figures["files"] <= 200

"""Items that die, hang, exhaust memory or print: each ends as it should, and no other item notices."""

import json
import os
import subprocess
import sys
import time

import pytest

from tasks.collections.ledger import Ledger
from tasks.engine.outcome import FAILED, OK
from tasks.engine.worker import PROTOCOL, open_upstream
from tests.support import ROOT, Running, make_workspace, run_module
from tests.toy import computed, expected_files, fill, item_id, plain

FINE = plain(12, seconds=0.01)
SCRIPTS = {
    "killed_once": {"acts": ["kill", "ok"]},
    "killed_always": {"acts": ["kill"]},
    "segfault": {"acts": ["segfault"]},
    "os_exit": {"acts": ["os_exit"]},
    "interrupt": {"acts": ["interrupt"]},
    "hang": {"acts": ["hang"]},
    "stopped": {"acts": ["stop"]},
    "leaves_a_child": {"acts": ["leave_a_child", "ok"]},
    "prints": {"acts": ["print"]},
    "out_of_memory": {"acts": ["memory"]},
    "many_files": {"files": 500, "bytes": 10},
    "gpu_memory": {"acts": ["gpu_memory", "ok"]},
    "big": {"bytes": 30_000_000},
}
EXPECTED = {
    "killed_always": ("killed", 2, "killed by signal 9"),
    "segfault": ("killed", 2, "died of SIGSEGV"),
    "os_exit": ("killed", 2, "exit code 0"),
    "interrupt": ("killed", 2, "died of SIGINT"),
    "hang": ("timeout", 1, "took longer than run.item_time_limit_s = 3 s"),
    "stopped": ("timeout", 1, "took longer"),
    "out_of_memory": ("oom_host", 2, "MemoryError"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """One run over all of them: (workspace, how it ended, what it published as failures)."""
    run = {"workers": 2, "item_time_limit_s": 3, "max_failed_share": 0.4, "attempts": {"timeout": 1, "killed": 2}}
    workspace = make_workspace(tmp_path_factory.mktemp("toy"), {"run": run, "toy": {"address_space_mb": 512}})
    fill(workspace, FINE | SCRIPTS)
    finished = run_module("tests.toy", workspace.root)
    entries = {entry["label"]: entry for entry in json.loads(workspace.failures_file("toy").read_text())}
    return workspace, finished, entries


def test_the_run_ends_in_order_with_every_item_accounted_for(ended):
    _, finished, entries = ended
    assert finished.exit_code == OK, finished.stderr
    outcome = finished.outcome
    assert outcome["done"] + outcome["exhausted"] == outcome["total"] == len(FINE) + len(SCRIPTS)
    assert set(entries) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_item_that_misbehaves_ends_with_its_class_attempts_and_message(ended, name):
    failure_class, attempts, message = EXPECTED[name]
    entry = ended[2][name]
    assert (entry["state"], entry["class"], entry["attempts"]) == ("exhausted", failure_class, attempts)
    assert message in entry["message"]


@pytest.mark.parametrize("name", sorted({*SCRIPTS} - {*EXPECTED}))
def test_an_item_that_gets_through_has_its_bytes(ended, name):
    upstream = open_upstream(ended[0], "toy")
    for file, data in expected_files(item_id(name), SCRIPTS[name], "").items():
        assert upstream.read(item_id(name), file) == data


def test_nothing_is_computed_twice_among_the_others(ended):
    fine = {item_id(name) for name in FINE}
    assert sorted(item for item, _ in computed(ended[0]) if item in fine) == sorted(fine)


def test_the_log_of_a_dead_worker_is_kept_with_the_attempt(tmp_path):
    workspace = make_workspace(tmp_path, {"run": {"workers": 1, "max_failed_share": 1}})
    fill(workspace, {"a": {"acts": ["segfault"]}})
    assert run_module("tests.toy", workspace.root).exit_code == OK
    with Ledger(workspace.local("toy")) as ledger:
        (first, _) = ledger.history(item_id("a"))
    assert "Segmentation fault" in str(first["detail"])
    assert "in run" in str(first["detail"])


def test_what_is_printed_is_in_the_log(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    workspace = make_workspace(tmp_path, {"run": {"workers": 1}})
    fill(workspace, {"prints": {"acts": ["say"]}})
    assert run_module("tests.toy", workspace.root).exit_code == OK
    assert (workspace.local("toy") / "logs" / "worker-1.log").read_text() == "as libraries do\n"


@pytest.mark.parametrize(
    ("start", "message"),
    [("raise", "RuntimeError: told to raise"), ("kill", "workers end before their first item")],
)
def test_workers_that_cannot_start_end_the_stage_with_their_log_and_charge_nobody(tmp_path, start, message):
    workspace = make_workspace(tmp_path, {"toy": {"start": start}, "run": {"workers": 1}})
    fill(workspace, plain(3))
    ended = run_module("tests.toy", workspace.root)
    assert ended.exit_code == FAILED
    assert message in ended.stderr
    (workspace.root / "params.yaml").write_text("{}")
    again = run_module("tests.toy", workspace.root)
    assert (again.exit_code, again.outcome["done"]) == (OK, 3)


def test_workers_that_hang_at_their_start_do_not_hang_the_stage(tmp_path):
    workspace = make_workspace(tmp_path, {"toy": {"start": "hang"}, "run": {"workers": 2, "item_time_limit_s": 0.5}})
    fill(workspace, plain(3))
    ended = run_module("tests.toy", workspace.root, timeout_s=60)
    assert ended.exit_code == FAILED
    assert "workers end before their first item" in ended.stderr


def test_a_worker_whose_supervisor_dies_in_the_middle_of_a_message_ends(tmp_path):
    workspace = make_workspace(tmp_path)
    hello = {
        "protocol": PROTOCOL,
        "stage": "tests.toy:Toy",
        "workspace": str(workspace.root),
        "trial": "",
        "params": {},
        "recipe": "",
        "device": "cpu",
        "worker_index": 0,
        "num_threads": 1,
        "log_level": "info",
    }
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "tasks.engine.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        _, log = worker.communicate(json.dumps({"hello": hello}).encode() + b'\n{"chunk": [{"id": ', timeout=60)
    finally:
        worker.kill()
    assert worker.returncode == 1
    assert b"Traceback" not in log


def test_no_worker_idles_while_another_has_items_waiting(tmp_path):
    workspace = make_workspace(tmp_path, {"run": {"workers": 2, "chunk": 8}})
    fill(workspace, {"a_slow": {"seconds": 4}} | plain(15, seconds=0.2))
    running = Running("tests.toy", workspace.root)
    ended = running.wait()
    assert ended.exit_code == OK, ended.stderr
    # The slow item's worker was handed 7 others with it (1.4 s of work): they did not wait for it.
    assert computed(workspace)[-1][0] == item_id("a_slow")


def test_a_worker_that_takes_no_messages_does_not_block_the_others(tmp_path):
    """A stopped worker's pipe fills up (64 KB); the supervisor must go on feeding the other."""
    scripts = plain(40) | {"a_stopped": {"acts": ["stop", "ok"]}}
    run = {"workers": 2, "chunk": 20, "item_time_limit_s": 6}
    workspace = make_workspace(tmp_path, {"run": run})
    fill(workspace, {name: script | {"ballast": "x" * 20_000} for name, script in scripts.items()})
    running = Running("tests.toy", workspace.root)
    deadline = time.monotonic() + 5
    while len(computed(workspace)) < 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(computed(workspace)) >= 20
    assert running.wait().outcome["done"] == 41

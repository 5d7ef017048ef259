"""Full disks, read-only folders, signals, stale locks and two runs at once: each ends in a clear message."""

import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from tasks.collections.holder import holder
from tasks.collections.inflight import living_workers
from tasks.engine.outcome import FAILED, HELD, OK, STOPPED
from tasks.engine.worker import open_upstream
from tests.faults.evidence import finished_items, held_twice, nobody_works, workers_of
from tests.support import Running, make_workspace, run_module, wait_until
from tests.toy import computed, expected_files, fill, item_id, plain


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def toy(workspace, *options):
    return run_module("tests.toy", workspace.root, *options)


def test_a_full_disk_is_named_and_once_freed_the_run_goes_on_without_loss(small_disk):
    workspace = make_workspace(small_disk, {})
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(5 << 20))
    fill(workspace, plain(30, bytes=100_000))
    full = toy(workspace)
    assert full.exit_code == FAILED
    assert "disk is full" in full.stderr
    assert "free some space and run the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    finished, log = finished_items(workspace, "toy"), len(computed(workspace))
    assert finished
    assert toy(workspace).exit_code == FAILED
    ballast.unlink()
    ended = toy(workspace)
    assert (ended.exit_code, ended.outcome["done"], ended.outcome["exhausted"]) == (OK, 30, 0), ended.stderr
    assert not finished.intersection(computed(workspace)[log:])
    assert held_twice(workspace, "toy") == []
    upstream = open_upstream(workspace, "toy")
    for name, script in plain(30, bytes=100_000).items():
        assert upstream.read(item_id(name), "out0.bin") == expected_files(item_id(name), script, "")["out0.bin"]


@pytest.mark.parametrize("spare_kb", [0, 20, 60, 200])
def test_a_disk_that_is_full_from_the_start_is_named(small_disk, spare_kb):
    workspace = make_workspace(small_disk, {})
    fill(workspace, plain(3, bytes=300_000))
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "ballast").write_bytes(bytes(free - spare_kb * 1024))
    full = toy(workspace)
    assert full.exit_code == FAILED
    assert "disk is full" in full.stderr
    assert "Traceback" not in full.stderr
    (small_disk / "ballast").unlink()
    assert toy(workspace).outcome["done"] == 3


def test_a_read_only_folder_is_named_and_charges_nobody(small_disk):
    workspace = make_workspace(small_disk, {})
    fill(workspace, plain(3))
    assert toy(workspace).exit_code == OK
    fill(workspace, plain(5))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    ended = toy(workspace)
    assert ended.exit_code == FAILED
    assert "cannot read or write" in ended.stderr
    assert "make the folder writable" in ended.stderr
    assert "Traceback" not in ended.stderr
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert toy(workspace).outcome["done"] == 5


def test_sigterm_seals_stops_within_seconds_and_resumes(tmp_path):
    workspace = make_workspace(tmp_path, {})
    fill(workspace, plain(400, seconds=0.02))
    running = Running("tests.toy", workspace.root)
    wait_until(lambda: len(computed(workspace)) > 30)
    asked = time.monotonic()
    running.terminate()
    ended = running.wait()
    assert time.monotonic() - asked < 5
    assert ended.exit_code == STOPPED
    assert "stopped by SIGTERM; the same command resumes" in ended.outcome["message"]
    assert not list(workspace.local("toy").glob("spool-*"))
    assert nobody_works(workspace, "toy")
    finished, log = finished_items(workspace, "toy"), len(computed(workspace))
    assert len(finished) == log == ended.outcome["computed"]
    again = toy(workspace)
    assert (again.exit_code, again.outcome["done"], again.outcome["computed"]) == (OK, 400, 400 - log)


def test_a_second_signal_stops_at_once_and_charges_nobody(tmp_path):
    workspace = make_workspace(tmp_path, {})
    fill(workspace, {"slow": {"seconds": 60}})
    running = Running("tests.toy", workspace.root)
    wait_until(lambda: any(path.read_bytes().strip() for path in workspace.local("toy").glob("inflight-*")))
    running.popen.send_signal(signal.SIGINT)
    time.sleep(0.7)
    asked = time.monotonic()
    running.popen.send_signal(signal.SIGINT)
    ended = running.wait()
    assert time.monotonic() - asked < 5
    assert ended.exit_code == STOPPED
    fill(workspace, {"slow": {"seconds": 0}})
    assert toy(workspace).outcome["exhausted"] == 0


def test_a_second_run_is_refused_naming_the_first_which_goes_on_unharmed(tmp_path):
    workspace = make_workspace(tmp_path, {})
    fill(workspace, plain(100, seconds=0.03))
    first = Running("tests.toy", workspace.root)
    wait_until(lambda: computed(workspace))
    second = toy(workspace)
    assert second.exit_code == HELD
    assert f"pid {first.popen.pid}, since" in second.stderr
    ended = first.wait()
    assert (ended.exit_code, ended.outcome["computed"]) == (OK, 100)
    assert len(computed(workspace)) == 100


def test_a_local_folder_that_is_removed_during_a_run_lets_no_second_run_in_and_loses_nothing(tmp_path):
    workspace = make_workspace(tmp_path, {})
    fill(workspace, plain(40) | {"slow": {"seconds": 4}})
    first = Running("tests.toy", workspace.root)
    wait_until(lambda: len(computed(workspace)) > 10)
    shutil.rmtree(workspace.local("toy"), ignore_errors=True)
    second = toy(workspace)
    assert (second.exit_code, f"pid {first.popen.pid}, since" in second.stderr) == (HELD, True)
    assert first.wait().outcome["done"] == 41
    again = toy(workspace)
    assert (again.exit_code, again.outcome["done"], again.outcome["computed"]) == (OK, 41, 0)
    assert len(computed(workspace)) == 41


def test_two_workspaces_that_share_their_artifacts_exclude_each_other(tmp_path):
    first, second = make_workspace(tmp_path / "first", {}), make_workspace(tmp_path / "second", {})
    fill(first, plain(60) | {"slow": {"acts": ["hang", "ok"]}})
    fill(second, plain(40))
    (first.root / "artifacts").mkdir()
    (second.root / "artifacts").symlink_to(first.root / "artifacts")
    running = Running("tests.toy", first.root)
    wait_until(lambda: computed(first))
    refused = toy(second)
    assert (refused.exit_code, f"pid {running.popen.pid}, since" in refused.stderr) == (HELD, True)
    running.kill_all()
    assert toy(first).outcome["done"] == len(first.items_file("toy").read_bytes().splitlines()) == 61


def test_the_lock_of_a_killed_run_is_taken_over_and_said(tmp_path):
    workspace = make_workspace(tmp_path, {})
    fill(workspace, plain(50, seconds=0.05))
    first = Running("tests.toy", workspace.root)
    wait_until(lambda: computed(workspace))
    assert str(first.popen.pid) in holder(workspace.local("toy"), workspace.artifacts("toy"))
    first.kill_all()
    assert toy(workspace).exit_code == OK


def test_a_stopped_orphan_does_not_survive_its_run(tmp_path):
    workspace = make_workspace(tmp_path, {})
    fill(workspace, plain(100, seconds=0.05))
    running = Running("tests.toy", workspace.root)
    wait_until(lambda: len(list(living_workers(workspace.local("toy")))) == 2)
    stopped, _ = workers_of(running)
    stopped.suspend()
    running.kill_all()
    ended = toy(workspace)
    assert not stopped.is_running() or stopped.status() == psutil.STATUS_ZOMBIE
    assert ended.exit_code == OK, ended.stderr
    assert len(computed(workspace)) <= 102

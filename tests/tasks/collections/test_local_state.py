"""The holder, the ledger, the stat cache and the markers of items in hand."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from tasks.collections import holder as holders
from tasks.collections.files import file_sha256, remove_partial, write_atomically, write_if_changed
from tasks.collections.holder import HeldByAnother, holder, holding
from tasks.collections.inflight import InFlight, clear_leftovers, leftovers, living_workers, read_marker
from tasks.collections.ledger import DONE, Attempt, Ledger
from tasks.collections.statcache import StatCache
from tests.support import ROOT

HOLD = """
import sys, time
from pathlib import Path
from tasks.collections.holder import holding
with holding("toy", Path(sys.argv[1]), Path(sys.argv[1]) / "artifacts"):
    print("held", flush=True)
    time.sleep(60)
"""
WORK = """
import sys, time
from pathlib import Path
from tasks.collections.inflight import InFlight
InFlight(Path(sys.argv[1])).mark("item", "key")
print("working", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Start code in another process and wait for its first line; killed at the end."""
    started = []

    def start(code):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-P", "-c", code, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        started.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def held(folder):
    """The toy's collection, held by this process."""
    return holding("toy", folder, folder / "artifacts")


def test_a_second_run_is_told_who_holds_the_stage(tmp_path, other):
    process = other(HOLD)
    who = rf"toy is held by another run: host {re.escape(socket.gethostname())}, pid {process.pid}, since 2\d\d\d-"
    with pytest.raises(HeldByAnother, match=who), held(tmp_path):
        pass
    assert str(process.pid) in (holder(tmp_path, tmp_path / "artifacts") or "")
    assert process.poll() is None


def test_the_lock_of_a_dead_run_is_taken_over_and_named(tmp_path, other):
    process = other(HOLD)
    process.kill()
    process.wait()
    assert holder(tmp_path, tmp_path / "artifacts") is None
    with held(tmp_path) as left_behind:
        assert f"pid {process.pid}" in left_behind
    with held(tmp_path) as left_behind:
        assert left_behind is None


def test_a_run_that_failed_in_order_leaves_no_stale_lock(tmp_path):
    with pytest.raises(RuntimeError, match="told"), held(tmp_path):
        raise RuntimeError("told")
    with held(tmp_path) as left_behind:
        assert left_behind is None


def test_two_workspaces_whose_artifacts_are_one_folder_exclude_each_other(tmp_path, other):
    process = other(HOLD)
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "artifacts").symlink_to(tmp_path / "artifacts")
    with pytest.raises(HeldByAnother, match=f"pid {process.pid}"), held(tmp_path / "second"):
        pass
    assert str(process.pid) in (holder(tmp_path / "second", tmp_path / "second" / "artifacts") or "")


def test_a_removed_local_folder_does_not_let_a_second_run_in(tmp_path, other):
    process = other(HOLD)
    (tmp_path / "holder.json").unlink()
    with pytest.raises(HeldByAnother, match=f"pid {process.pid}"), held(tmp_path):
        pass


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    path, locked = tmp_path / "holder.json", holders._locked

    def remove_before_the_first_lock(descriptor):
        monkeypatch.setattr(holders, "_locked", locked)
        path.unlink()
        return locked(descriptor)

    monkeypatch.setattr(holders, "_locked", remove_before_the_first_lock)
    with held(tmp_path), pytest.raises(HeldByAnother), held(tmp_path):
        pass


def test_a_file_system_without_locks_is_said_and_worked_on(tmp_path, monkeypatch, caplog):
    def has_no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(holders.fcntl, "flock", has_no_locks)
    with held(tmp_path):
        pass
    assert "cannot be locked (No locks available): see to it that no other machine works on it" in caplog.text


def test_somebody_who_only_looks_does_not_keep_a_run_from_starting(tmp_path, monkeypatch):
    with held(tmp_path):
        pass
    monkeypatch.setattr(holders, "LOOK_S", 5)
    looks = "import fcntl,os,sys,time; f=os.open(sys.argv[1]+'/holder.json',0); fcntl.flock(f,fcntl.LOCK_SH);"
    code = looks + "print(flush=True); time.sleep(0.3)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with held(tmp_path):
            pass


def test_an_orphaned_worker_holds_the_stage_until_it_ends(tmp_path, other, monkeypatch):
    process = other(WORK)
    monkeypatch.setattr(holders, "ORPHAN_GRACE_S", 0.1)
    with pytest.raises(HeldByAnother, match=f"pid {process.pid}"), held(tmp_path):
        pass
    process.kill()
    process.wait()
    with held(tmp_path):
        assert leftovers(tmp_path) == [("item", "key")]
        clear_leftovers(tmp_path)
        assert leftovers(tmp_path) == []


def test_a_marker_names_the_item_in_hand_and_goes_with_its_worker(tmp_path):
    in_flight = InFlight(tmp_path)
    assert read_marker(in_flight.path) is None
    in_flight.mark("0123456789abcdef", "k" * 64)
    assert read_marker(in_flight.path) == ("0123456789abcdef", "k" * 64)
    in_flight.mark("train", "s")
    assert read_marker(in_flight.path) == ("train", "s")
    in_flight.clear()
    assert read_marker(in_flight.path) is None
    in_flight.close()
    assert list(living_workers(tmp_path)) == []
    assert not in_flight.path.exists()


def test_the_ledger_counts_unforgiven_failures_and_keeps_the_history(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.add([Attempt("a", "k", "error", "first"), Attempt("a", "k", DONE, seconds=2.0)])
        ledger.add([Attempt("b", "k", "killed")])
        assert {pair: [a.message for a in tries] for pair, tries in ledger.failures().items()} == {
            ("a", "k"): ["first"],
            ("b", "k"): [""],
        }
        ledger.forgive([("a", "k")])
    with Ledger(tmp_path) as ledger:
        assert set(ledger.failures()) == {("b", "k")}
        assert [row["outcome"] for row in ledger.history("a")] == ["error", DONE]
        assert ledger.times_done() == {("a", "k"): 1}
        assert ledger.seconds_per_item() == 2.0
        assert ledger.is_done("a", "k")
        assert not ledger.is_done("b", "k")


def test_a_failed_write_leaves_the_ledger_usable(tmp_path):
    with Ledger(tmp_path) as ledger:
        with pytest.raises(Exception, match="NOT NULL"):
            ledger.add([Attempt("a", "k", DONE), Attempt("b", None, DONE)])
        ledger.add([Attempt("c", "k", DONE)])
        assert ledger.times_done() == {("c", "k"): 1}


def test_the_ledger_knows_what_a_run_has_not_published(tmp_path):
    with Ledger(tmp_path) as ledger:
        assert ledger.unpublished_recipe() is None
        first = ledger.begin_run("r1")
        assert ledger.unpublished_recipe() == "r1"
        assert ledger.last_run() is None
        ledger.end_run(first, seconds=1, computed=2, exit_code=5, message="stopped", published=False)
        assert ledger.unpublished_recipe() == "r1"
        ledger.end_run(ledger.begin_run("r1"), seconds=1, computed=2, exit_code=0, message="", published=True)
        assert ledger.unpublished_recipe() is None
        assert ledger.last_run()["exit_code"] == 0


def settled(path):
    """Wait until the file's times tell any later change."""
    time.sleep(max(0.0, path.stat().st_ctime + 0.05 - time.time()))
    return path


def test_an_unchanged_file_is_read_once_and_a_changed_one_again(tmp_path, monkeypatch):
    path, read = tmp_path / "file", []
    monkeypatch.setattr("tasks.collections.statcache.file_sha256", lambda p: read.append(p) or file_sha256(p))
    path.write_bytes(b"one")
    for _ in range(2):
        cache = StatCache(tmp_path / "files.db")
        first = cache.digest(settled(path))
        cache.close()
    assert len(read) == 1
    path.write_bytes(b"two")
    cache = StatCache(tmp_path / "files.db")
    assert cache.digest(settled(path)) != first
    cache.close()


def test_a_change_of_equal_size_and_mtime_is_noticed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    cache = StatCache(tmp_path / "files.db")
    first = cache.digest(settled(path))
    path.write_bytes(b"two")
    os.utime(path, ns=times)
    assert cache.digest(path) != first
    cache.close()


def test_a_file_that_changes_within_a_clock_tick_is_not_remembered(tmp_path):
    path, cache = tmp_path / "file", StatCache(tmp_path / "files.db")
    digests = set()
    for index in range(200):
        path.write_bytes(b"%03d" % index)
        digests.add(cache.digest(path))
    assert len(digests) == 200
    cache.close()


def test_a_forgotten_file_is_read_again_in_this_run_and_in_the_next(tmp_path, monkeypatch):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"one")
    other.write_bytes(b"other")
    cache = StatCache(tmp_path / "files.db")
    for each in (path, other):
        cache.digest(settled(each))
    cache.forget(path)
    cache.close()
    read = []
    monkeypatch.setattr("tasks.collections.statcache.file_sha256", lambda p: read.append(p) or file_sha256(p))
    cache = StatCache(tmp_path / "files.db")
    cache.digest(other)
    assert read == []
    cache.digest(path)
    assert read == [path]
    cache.close()


def test_writing_equal_bytes_changes_nothing(tmp_path):
    path = tmp_path / "folder" / "items.jsonl"
    assert write_if_changed(path, b"1\n")
    before = path.stat()
    assert not write_if_changed(path, b"1\n")
    assert path.stat() == before
    assert write_if_changed(path, b"2\n")
    assert [entry.name for entry in path.parent.iterdir()] == ["items.jsonl"]


def test_half_written_files_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getppid()):
        (tmp_path / f"items.jsonl.{pid}.tmp").write_text("{")
    write_atomically(tmp_path / "items.jsonl", json.dumps({}).encode())
    remove_partial(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"items.jsonl", f"items.jsonl.{os.getppid()}.tmp"}


def test_digests_of_files_whose_names_are_not_utf8_are_remembered(tmp_path, monkeypatch):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(b"bytes")
    cache = StatCache(tmp_path / "files.db")
    sha256 = cache.digest(settled(path))
    cache.close()
    monkeypatch.setattr("tasks.collections.statcache.file_sha256", lambda _: pytest.fail("read again"))
    cache = StatCache(tmp_path / "files.db")
    assert cache.digest(path) == sha256
    cache.close()

"""A host is asked by one item at a time; whatever it does, each item gets its own answer or its own failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from models.errors import BrokenMachine, ItemFailed, Unavailable
from models.hosting.client import KEPT_LOGS, Client, HostLimits
from models.hosting.log import FILE_BYTES, TAIL_BYTES
from models.hosting.process import Program
from tests.support import PLUGINS, ROOT, wait_until

RUNTIME = str(PLUGINS / "scripted_runtime.py")
RGBA_VHW4 = np.full((1, 8, 8, 4), 255, np.uint8)


class Script:
    """A client whose host does as it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work_dir = folder / "work"
        self.clients: list[Client] = []
        self._others = set(psutil.Process().children(recursive=True))  # of tests before, multiprocessing's tracker

    def client(self, acts: dict[str, list[str]], program: str = "", **limits: float) -> Client:
        """acts: by item id, one a try; the last one repeats."""
        (self.folder / "acts.json").write_text(json.dumps(acts))
        settings = {"script": str(self.folder), "load_s": 0}
        python = {"python": program} if program else {}
        client = Client(Program(RUNTIME, settings, "cpu", **python), HostLimits(**limits), self.work_dir)
        self.clients.append(client)
        return client

    def pids(self, name: str) -> list[int]:
        return [int(line) for line in (self.folder / name).read_text().splitlines()]

    @property
    def num_loads(self) -> int:
        return len(self.pids("loads.log"))

    def family(self) -> set[psutil.Process]:
        """What was started since, and runs."""
        return set(psutil.Process().children(recursive=True)) - self._others

    def logs(self) -> list[Path]:
        return sorted(self.work_dir.glob("host-*.log"))


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path)
    yield made
    for client in made.clients:
        client.close()


def generate(client: Client, item: str, resolution: int = 1):
    return client.generate(item, ["front"], RGBA_VHW4, {"resolution": resolution, "item_s": 0, "card_mb": 0}, 0)


def failure(client: Client, item: str) -> ItemFailed:
    with pytest.raises(ItemFailed) as caught:
        generate(client, item)
    return caught.value


def test_a_child_that_the_teacher_forked_has_no_say(script):
    client = script.client({f"item{number}": ["fork"] for number in range(5)})
    for number in range(5):
        assert generate(client, f"item{number}", number)[0]["resolution"] == number
    assert script.num_loads == 1
    wait_until(lambda: all(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in script.pids("children.log")))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            "answer_for_another",
            "the teacher's process spoke out of turn: it answered request 1 when it was asked request 2",
        ),
        ("answer_otherwise", "the teacher's process spoke out of turn: it answered with neither done nor failed"),
        ("garbage", "the teacher's process spoke out of turn: it cannot be read: not a message: b'loading: 100%"),
    ],
)
def test_a_host_that_answers_something_else_is_replaced_and_its_item_charged(script, act, message):
    client = script.client({"bad": [act]})
    failed = failure(client, "bad")
    assert failed.failure_class == "teacher_error"
    assert str(failed).startswith(message)
    assert "to reproduce: " in failed.detail
    assert client.fresh
    assert generate(client, "next", 5)[0]["resolution"] == 5
    assert script.num_loads == 2


def test_an_item_does_not_pay_for_the_second_answer_of_the_one_before(script):
    client = script.client({"first": ["answer_twice"], "late": ["hang", "ok"]})
    assert generate(client, "first", 1)[0]["resolution"] == 1
    assert generate(client, "late", 2)[0]["resolution"] == 2, "the second answer came while this item was computed"
    assert (script.folder / "tries" / "late").read_text() == ".."
    assert script.num_loads == 2


def test_a_second_answer_between_two_items_ends_the_host_and_charges_nobody(script):
    client = script.client({"first": ["answer_twice"]})
    generate(client, "first")
    host = client._host
    wait_until(lambda: not host._heard.empty())
    assert generate(client, "second", 2)[0]["resolution"] == 2
    assert (script.folder / "tries" / "second").read_text() == "."
    assert script.num_loads == 2


def test_a_host_that_dies_between_two_items_charges_nobody(script):
    client = script.client({"first": ["die_later"]})
    generate(client, "first")
    host = client._host
    wait_until(lambda: host.popen.poll() is not None)
    assert generate(client, "second", 2)[0]["resolution"] == 2
    assert (script.folder / "tries" / "second").read_text() == "."


def test_nothing_outlives_a_host_that_dies_and_its_worker_does_not_wait_for_it(script):
    client = script.client({"bad": ["leave_children"]})
    failed = failure(client, "bad")
    assert (failed.failure_class, failed.exit_code) == ("killed", -9)
    assert str(failed) == "the teacher's process was killed by signal 9"
    assert not any(psutil.pid_exists(pid) for pid in script.pids("children.log"))
    assert not (script.folder / "survived").exists()


WORKER = """
import sys
from pathlib import Path
from tests.models.hosting.test_client import Script, generate
generate(Script(Path(sys.argv[1])).client({"one": ["hang_with_children"]}), "one")
"""


def test_a_host_and_its_children_end_with_a_worker_that_is_killed(script):
    worker = subprocess.Popen([sys.executable, "-c", WORKER, script.folder], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        children = script.folder / "children.log"
        wait_until(lambda: children.is_file() and len(children.read_text().splitlines()) == 2)
        family = psutil.Process(worker.pid).children(recursive=True)
        assert {process.pid for process in family} >= {*script.pids("children.log"), *script.pids("loads.log")}
    finally:
        worker.kill()
        worker.wait()
    wait_until(lambda: not any(process.is_running() for process in family))


def test_nothing_is_left_of_a_closed_client(script):
    client = script.client({"one": ["fork"]})
    generate(client, "one")
    family = script.family()
    assert len(family) >= 4  # the host and the stand-by, each with its keeper
    client.close()
    assert not any(process.is_running() for process in family)
    assert script.logs() == []


def test_a_full_disk_in_the_teacher_is_the_machines_fault(script):
    client = script.client({"one": ["fill_the_disk"], "later": ["fill_the_disk", "ok"]})
    with pytest.raises(BrokenMachine, match="No space left on device"):
        generate(client, "one")
    assert script.num_loads == 2, "it was tried in a new process too"
    assert generate(client, "later", 3)[0]["resolution"] == 3


def test_types_that_other_libraries_hand_out_arrive(script):
    figures, arrays = generate(script.client({"one": ["odd_types"]}), "one")
    assert (figures["resolution"], figures["peak_vram_mb"], figures["closed"]) == (7, 1.5, True)
    assert figures["box"] == [1, 1, 1]
    assert arrays["faces_F3"].dtype == np.uint32
    assert arrays["faces_F3"].tolist() == [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]
    arrays["faces_F3"][0, 0] = 9  # what is received may be written to
    assert script.num_loads == 1


def test_an_array_that_cannot_be_sent_is_named_and_the_host_lives_on(script):
    client = script.client({"bad": ["objects"]})
    failed = failure(client, "bad")
    assert failed.failure_class == "teacher_error"
    assert str(failed).startswith("TypeError: the array 'faces_F3' has type object; it can be sent as: bool, int8")
    generate(client, "next")
    assert script.num_loads == 1


def test_a_teacher_that_works_without_a_beat_is_not_silent(script):
    client = script.client({"one": ["work_without_a_beat"]}, silence_s=2)
    assert generate(client, "one", 4)[0]["resolution"] == 4
    assert script.num_loads == 1


@pytest.mark.parametrize("act", ["sleep_with_the_lock", "silence"])
def test_a_teacher_that_neither_beats_nor_works_is_ended(script, act):
    client = script.client({"one": [act]}, silence_s=2)
    failed = failure(client, "one")
    assert failed.failure_class == "timeout"
    assert str(failed) == "the teacher's process gave no sign of life for 2 s"
    assert not psutil.pid_exists(script.pids("loads.log")[0])


def test_what_a_teacher_prints_is_kept_within_bounds(script):
    client = script.client({"one": ["chatter"]})
    before = psutil.Process().memory_info().rss
    failed = failure(client, "one")
    printed, _, _ = failed.detail.partition("\nto reproduce")
    assert len(printed) == TAIL_BYTES
    assert printed.endswith("the last words of this process\n")
    assert psutil.Process().memory_info().rss - before < 32 << 20
    [log] = [path for path in script.logs() if path.stat().st_size]
    assert log.stat().st_size <= FILE_BYTES
    assert log.read_bytes().endswith(b"the last words of this process\n")


def test_logs_of_hosts_that_died_are_few_and_those_of_ended_workers_are_removed(script):
    client = script.client({"bad": ["segfault"]})
    for _ in range(6):
        assert "Segmentation fault" in failure(client, "bad").detail
    client.close()
    assert len(script.logs()) == KEPT_LOGS == 5
    (script.work_dir / "host-999999999-1.log").write_text("of a worker that is gone")
    script.client({})
    assert not (script.work_dir / "host-999999999-1.log").exists()


def test_an_interpreter_that_is_missing_is_named(script):
    client = script.client({}, program="/nowhere/bin/python")
    with pytest.raises(
        Unavailable, match=r"cannot start /nowhere/bin/python: No such file or directory; `lostwax teac"
    ):
        client.start()
    assert script.family() == set()

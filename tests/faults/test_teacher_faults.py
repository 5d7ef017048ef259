"""A teacher that runs out of memory, dies, hangs, leaks or returns nothing, over sixty items.

Every healthy item is finished once, every bad one is in the ledger with its class, the run ends, and says what to do.
A case returns its row of the table in docs/faults.md.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable

import pytest
from PIL import Image

from models.geometry import Mesh
from models.hosting.messages import DTYPES
from tasks.collections.ledger import Ledger
from tasks.engine.outcome import FAILED, HELD, OK
from tasks.engine.worker import open_upstream
from tests.faults.evidence import finished_items, held_twice
from tests.faults.factory import NUM_ITEMS, Factory, labels_of, make_factory, photo, prepare
from tests.support import Finished, wait_until


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_factory(tmp_path_factory.mktemp("factory") / "prepared")


@pytest.fixture
def factory(prepared, tmp_path):
    return Factory.copy(prepared, tmp_path / "factory")


def row(
    factory: Factory, ended: Finished, words: str, started: float, earlier: dict[str, tuple[str, str]] | None = None
) -> str:
    """One row of the table: what is done, what failed, the exit code, how long it took and what was said.

    earlier: items that failed before the teacher, with class and message.
    """
    failures = {**factory.failed(), **(earlier or {})}
    text = ended.stdout + ended.stderr + json.dumps(failures)
    assert words in text, f"{words!r} is not in {text}"
    assert "Traceback" not in ended.stdout + ended.stderr
    failed = Counter(kind for kind, _ in failures.values())
    bad = ", ".join(f"{count} {kind}" for kind, count in sorted(failed.items())) or "-"
    healthy = len(factory.done())
    return f"{healthy}/{len(factory.ids)} | {bad} | {ended.exit_code} | {time.monotonic() - started:.0f} | {words}"


def out_of_memory_always(factory: Factory) -> str:
    """F1"""
    started, bad = time.monotonic(), labels_of(3, 17, 31, 44)
    factory.tell({label: ["oom"] for label in bad})
    ended = factory.run()
    assert ended.exit_code == OK
    factory.assert_all_but(bad)
    assert {kind for kind, _ in factory.failed().values()} == {"oom_gpu"}
    assert factory.rungs() == {}
    return row(factory, ended, "at rung 1 of the ladder: {'resolution': 256}", started)


def out_of_memory_once(factory: Factory) -> str:
    """F2"""
    started, bad = time.monotonic(), labels_of(20, 28, 36, 44)
    factory.tell({label: ["oom", "ok"] for label in bad})
    ended = factory.run()
    assert ended.exit_code == OK
    factory.assert_all_but(set())
    assert factory.rungs() == {}, "in a fresh process it fits, at full quality"
    return row(factory, ended, "60 done (60 computed) of 60", started)


def killed_always(factory: Factory) -> str:
    """F3"""
    started, bad = time.monotonic(), labels_of(0, 30)
    factory.tell({label: ["kill"] for label in bad})
    ended = factory.run()
    assert ended.exit_code == OK
    factory.assert_all_but(bad)
    assert {kind for kind, _ in factory.failed().values()} == {"killed"}
    return row(factory, ended, "the teacher's process was killed by signal 9", started)


def bad_images(factory: Factory) -> str:
    """F4: they never reach the teacher, but for those that are images after all."""
    started, inbox = time.monotonic(), factory.workspace.root / "inbox"
    good = photo(1000)
    (inbox / "truncated.png").write_bytes(good[: len(good) // 2])
    (inbox / "empty.png").write_bytes(b"")
    (inbox / "UPPER.PNG").write_bytes(photo(1001))
    (inbox / "one").mkdir()
    (inbox / "two").mkdir()
    (inbox / "one/same.png").write_bytes(photo(1002))
    (inbox / "two/same.png").write_bytes(photo(1003))
    Image.new("RGBA", (1, 1), (9, 9, 9, 255)).save(inbox / "dot.png")
    gray = Image.new("LA", (40, 40), (120, 0))
    gray.paste((200, 255), (8, 8, 32, 32))
    gray.save(inbox / "gray_alpha.png")
    prepare(factory.workspace)
    factory.read_labels()
    ended = factory.run()
    assert ended.exit_code == OK
    earlier = {}
    for stage in ("ingest", "views", "matte"):
        entries = json.loads(factory.workspace.failures_file(stage).read_text())
        earlier |= {entry["label"]: (entry["class"], entry["message"]) for entry in entries}
    assert earlier["truncated"] == ("bad_input", "not a readable image: image file is truncated")
    assert earlier["empty"][0] == "bad_input"
    assert {"UPPER", "gray_alpha"} <= factory.done()
    assert sum("same" in label for label in factory.done()) == 2
    assert factory.done() | earlier.keys() | factory.failed().keys() >= factory.ids.keys() | {"dot"}
    return row(factory, ended, "the file is empty (0 bytes)", started, earlier)


def run_killed(factory: Factory) -> str:
    """F5: kill -9 of everything at 30 % and 60 %, then ten times aimed at the writing of an item."""
    started = time.monotonic()
    factory.set(teachers={"scripted": {"item_s": 0.1}}, run={"attempts": {"interrupted": 100}})
    kills = 0
    for share in (0.3, 0.6):
        kills += kill_when(factory, lambda share=share: len(factory.computed()) >= share * NUM_ITEMS)
    for seed in range(10):
        before = spools(factory)
        delay_s = random.Random(seed).uniform(0, 0.002)
        kills += kill_when(factory, lambda before=before: spools(factory) - before, delay_s)
    finished = len(finished_items(factory.workspace, "teach"))
    ended = factory.run()
    assert ended.exit_code == OK
    assert kills >= 10
    assert factory.done() == set(factory.ids)
    assert f"60 done ({NUM_ITEMS - finished} computed" in ended.stdout + ended.stderr
    assert held_twice(factory.workspace, "teach") == []
    # What was in a teacher's hands at a kill is computed again, at most one item a worker; a finished one never is.
    assert factory.computed().total() <= NUM_ITEMS + 2 * kills
    return row(factory, ended, "60 done", started)


def kill_when(factory: Factory, condition: Callable[[], object], delay_s: float = 0) -> bool:
    """Kill a run's whole group so long after a condition came true; whether it was still at work."""
    running = factory.running()
    wait_until(lambda: condition() or not running.alive)
    time.sleep(delay_s)
    alive = running.alive
    running.kill_all()
    return alive


def spools(factory: Factory) -> set[str]:
    return {path.name for path in factory.workspace.local("teach").glob("spool-*.tar")}


def disk_full(factory: Factory) -> str:
    """F6: full, freed, run again."""
    started, disk = time.monotonic(), factory.workspace.root.parent / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    try:
        small = Factory.copy(factory.workspace, disk)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "ballast").write_bytes(bytes(free - (100 << 10)))
        full = small.run()
        assert full.exit_code == FAILED
        finished = len(finished_items(small.workspace, "teach"))
        assert finished < NUM_ITEMS
        (disk / "ballast").unlink()
        again = small.run()
        assert again.exit_code == OK
        assert f"60 done ({NUM_ITEMS - finished} computed" in again.stdout + again.stderr
        assert small.done() == set(small.ids)
        assert held_twice(small.workspace, "teach") == []
        return row(small, Finished(full.exit_code, full.stdout, full.stderr, 0), "the disk is full", started)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def empty_and_nan(factory: Factory) -> str:
    """F7"""
    started, bad = time.monotonic(), labels_of(5, 6, 40, 41)
    factory.tell({label: ["empty" if index % 2 else "nan"] for index, label in enumerate(sorted(bad))})
    ended = factory.run()
    assert ended.exit_code == OK
    factory.assert_all_but(bad)
    assert {kind for kind, _ in factory.failed().values()} == {"empty_output"}
    return row(factory, ended, "vertices that are not finite", started)


def hang(factory: Factory) -> str:
    """F8: one that computes for ever, one that stands still."""
    started, bad = time.monotonic(), labels_of(10, 50)
    factory.tell({"photo0010": ["hang"], "photo0050": ["silence"]})
    factory.set(run={"item_time_limit_s": 6, "teacher": {"silence_s": 3}})
    ended = factory.run()
    assert ended.exit_code == OK
    factory.assert_all_but(bad)
    messages = factory.failed()
    assert {kind for kind, _ in messages.values()} == {"timeout"}
    assert "gave no sign of life for 3 s" in messages["photo0050"][1]
    return row(factory, ended, "took longer than run.item_time_limit_s = 6 s", started)


def two_runs(factory: Factory) -> str:
    """F9"""
    started = time.monotonic()
    factory.set(teachers={"scripted": {"item_s": 0.05}})
    first = factory.running()
    wait_until(lambda: factory.computed())
    second = factory.run()
    assert second.exit_code == HELD
    assert f"pid {first.popen.pid}, since" in second.stderr
    ended = first.wait()
    assert ended.exit_code == OK
    factory.assert_all_but(set())
    return row(factory, second, f"pid {first.popen.pid}, since", started)


def leak(factory: Factory) -> str:
    """F10: 50 MB an item."""
    started = time.monotonic()
    factory.tell({label: ["leak"] for label in factory.ids})
    factory.set(run={"workers": 1, "teacher": {"leak_mb": 300}})
    ended = factory.run()
    assert ended.exit_code == OK
    factory.assert_all_but(set())
    with Ledger(factory.workspace.local("teach")) as ledger:
        peaks = [figures["peak_rss_mb"] for figures in ledger.figures()]
    assert len(peaks) == NUM_ITEMS
    assert max(peaks) < min(peaks) + 500
    assert factory.num_loads() >= NUM_ITEMS * 50 / 500
    return row(factory, ended, "60 done (60 computed) of 60", started)


def missing_weights(factory: Factory) -> str:
    """F11"""
    started = time.monotonic()
    (factory.script / "missing").write_text("the weights are missing; fetch them with `python -m fetch`")
    ended = factory.run()
    assert ended.exit_code == FAILED
    assert factory.done() == set()
    assert {kind for kind, _ in factory.failed().values()} == {"environment"}
    said = row(factory, ended, "the weights are missing; fetch them", started)
    (factory.script / "missing").unlink()
    assert factory.run().exit_code == OK
    factory.assert_all_but(set())
    return said


def gpu_lost(factory: Factory) -> str:
    """F12: mid-run, and it does not come back until the machine is mended."""
    started = time.monotonic()
    factory.tell({"photo0030": ["lose_the_gpu", "ok"]})
    ended = factory.run()
    assert ended.exit_code == FAILED
    finished = len(finished_items(factory.workspace, "teach"))
    assert 0 < finished < NUM_ITEMS
    (factory.script / "missing").unlink()
    again = factory.run()
    assert again.exit_code == OK
    factory.assert_all_but(set())
    with Ledger(factory.workspace.local("teach")) as ledger:
        assert ledger.failures() == {}, "a broken machine charges nobody"
    return row(factory, Finished(1, ended.stdout, ended.stderr, 0), "no CUDA-capable device is detected", started)


def forked_children(factory: Factory) -> str:
    """F13: children that go on as their parents do, answers for other items, answers that are none."""
    started, bad = time.monotonic(), labels_of(12, 13, 48, 49)
    factory.tell(
        {label: ["fork"] for label in factory.ids}
        | {"photo0012": ["answer_for_another"], "photo0013": ["garbage"]}
        | {"photo0048": ["answer_for_another"], "photo0049": ["leave_children"]}
        | {"photo0030": ["answer_twice"], "photo0031": ["answer_twice"]}
    )
    ended = factory.run()
    assert ended.exit_code == OK
    assert factory.done() == set(factory.ids) - bad
    assert held_twice(factory.workspace, "teach") == []
    for record in factory.records():
        assert record["quality"]["item"] == record["id"], "the result of another item, or of a child"
    messages = factory.failed()
    assert {kind for label, (kind, _) in messages.items() if label != "photo0049"} == {"teacher_error"}
    assert messages["photo0049"][0] == "killed"
    assert not (factory.script / "survived").exists()
    return row(factory, ended, "the teacher's process spoke out of turn: it answered request", started)


def disk_full_in_the_teacher(factory: Factory) -> str:
    """F14: mid-run, and it stays full until somebody makes room."""
    started = time.monotonic()
    factory.tell({label: ["fill_the_disk"] for label in labels_of(*range(30, 48))})
    full = factory.run()
    assert full.exit_code == FAILED
    finished = len(finished_items(factory.workspace, "teach"))
    assert 0 < finished < NUM_ITEMS
    factory.tell({})
    again = factory.run()
    assert again.exit_code == OK
    factory.assert_all_but(set())
    with Ledger(factory.workspace.local("teach")) as ledger:
        assert ledger.failures() == {}, "a full disk charges nobody"
    return row(factory, Finished(full.exit_code, full.stdout, full.stderr, 0), "No space left on device", started)


def types_and_colours(factory: Factory) -> str:
    """F15: types that are not stored as they are, colours of every kind."""
    started, bad = time.monotonic(), labels_of(5, 6)
    factory.tell(
        {label: ["odd_types"] for label in labels_of(1, 2, 3)}
        | {"photo0004": ["float_colours"], "photo0005": ["nan_colours"], "photo0006": ["objects"]}
    )
    ended = factory.run()
    assert ended.exit_code == OK
    factory.assert_all_but(bad)
    messages = factory.failed()
    assert messages["photo0006"] == (
        "teacher_error",
        f"TypeError: the array 'faces_F3' has type object; it can be sent as: {', '.join(DTYPES)}",
    )
    assert messages["photo0005"][0] == "empty_output"
    upstream = open_upstream(factory.workspace, "teach")
    coloured = Mesh.from_glb(upstream.read(factory.ids["photo0004"], "mesh.glb"))
    assert coloured.colours_N4.tolist() == [[0, 128, 255, 255]] * 4
    plain, odd = (upstream.read(factory.ids[label], "mesh.glb") for label in ("photo0000", "photo0001"))
    assert odd == plain
    return row(factory, ended, "mesh has colours that are not finite (colours_N4: 4 of 4 are NaN or infinite)", started)


CASES = {
    "F1 out of memory on 4 items, always": out_of_memory_always,
    "F2 out of memory on 4 items, once": out_of_memory_once,
    "F3 SIGKILL on 2 items, always": killed_always,
    "F4 bad images": bad_images,
    "F5 the whole run killed 12 times, 10 aimed": run_killed,
    "F6 the disk full, freed, run again": disk_full,
    "F7 empty and NaN outputs": empty_and_nan,
    "F8 two hangs": hang,
    "F9 two runs at once": two_runs,
    "F10 a leak of 50 MB an item": leak,
    "F11 missing weights": missing_weights,
    "F12 the GPU is lost mid-run": gpu_lost,
    "F13 forked children, answers for other items": forked_children,
    "F14 the disk full inside the teacher": disk_full_in_the_teacher,
    "F15 odd types, colours that are floats or NaN": types_and_colours,
}


AT_ONCE = (
    out_of_memory_always,
    out_of_memory_once,
    killed_always,
    empty_and_nan,
    leak,
    missing_weights,
    forked_children,
    disk_full_in_the_teacher,
    types_and_colours,
)
"""Those of `make test`; the others take longer and are left to `make chaos`."""
PARAMETERS = [
    pytest.param(case, id=case.__name__, marks=[] if case in AT_ONCE else pytest.mark.slow) for case in CASES.values()
]


@pytest.mark.parametrize("case", PARAMETERS)
def test_fault(case, factory):
    assert case(factory)


CLASS_OF = {
    "oom": "oom_gpu",
    "cublas": "oom_suspected",
    "host_memory": "oom_host",
    "error": "teacher_error",
    "bad": "bad_input",
    "kill": "killed",
    "segfault": "killed",
    "exit": "killed",
    "hang": "timeout",
    "silence": "timeout",
    "empty": "empty_output",
    "nan": "empty_output",
}


@pytest.mark.slow
def test_a_thousand_items_with_faults_of_every_kind_and_twenty_kills_end_complete(tmp_path):
    random_ = random.Random(7)
    factory = Factory.copy(make_factory(tmp_path / "prepared", 1000), tmp_path / "factory")
    bad = dict(zip(random_.sample(sorted(factory.ids), 50), [*CLASS_OF] * 4, strict=False))
    factory.tell({label: [act] for label, act in bad.items()})
    factory.set(
        run={
            "item_time_limit_s": 4,
            "teacher": {"silence_s": 2, "restart_after_items": 40},
            "attempts": {"interrupted": 1000, "timeout": 1},
        },
        teachers={"scripted": {"item_s": 0.03}},
    )
    kills = 0
    for _ in range(20):
        before = factory.computed().total()
        more = random_.randrange(5, 45)
        kills += kill_when(factory, lambda before=before, more=more: factory.computed().total() >= before + more)
        assert held_twice(factory.workspace, "teach") == []
    ended = factory.run(timeout_s=900)
    assert kills >= 15
    assert ended.exit_code == OK, ended.stderr
    assert factory.done() == set(factory.ids) - bad.keys()
    assert {label: kind for label, (kind, _) in factory.failed().items()} == {
        label: CLASS_OF[act] for label, act in bad.items()
    }
    assert held_twice(factory.workspace, "teach") == []
    healthy = sum(count for label, count in factory.computed().items() if label not in bad)
    assert healthy <= 1000 - len(bad) + 2 * kills, "at most what each worker had in hand"

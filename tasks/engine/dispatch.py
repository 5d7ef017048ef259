"""The work of one stage: hand pending items to workers, charge failures, stop in time. Publishing comes after."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from models.machine import num_cores, num_gpus
from tasks.collections.index import Finished
from tasks.collections.ledger import DONE, Attempt, Ledger
from tasks.collections.spool import recover
from tasks.engine.outcome import Progress, Stopped
from tasks.engine.planning import StagePlan, is_exhausted
from tasks.engine.stage import Stage, reference
from tasks.engine.supervisor import Death, Event, Notice, Pool, Result, Task
from tasks.engine.worker import PROTOCOL
from tasks.params import Params
from tasks.workspace import Workspace

STOP_GRACE_S = 15.0
SAVE_EVERY_S = 0.5
WORTH_A_WORKER_S = 1.0
MAX_CHUNK = 256
WINDOW = 30
"""Items tried for the first time, the last so many, by which a stage judges whether to go on."""
CHUNKS_A_WORKER = 4
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")


class TooManyFailures(Exception):
    """Too many of the last items failed to go on. The message says how and why."""


class BrokenEnvironment(Exception):
    """The machine is at fault (disk, permissions, workers that cannot start). No item is charged."""


class Dispatch:
    """Computes the pending items of a plan. Afterwards every one of them is finished, exhausted or blocked."""

    def __init__(
        self,
        stage: Stage,
        workspace: Workspace,
        params: Params,
        plan: StagePlan,
        finished: Finished,
        ledger: Ledger,
        failures: Mapping[tuple[str, str], list[Attempt]],
        encode: Callable[[Task], Mapping[str, Any]],
        report: Callable[[Progress], None],
    ) -> None:
        self.computed = 0
        self.exhausted: dict[str, list[Attempt]] = {}
        self.blocked: dict[str, str] = {}
        self.damaged: list[Path] = []
        """Shards, of the stage or of those it reads, that a worker found to be damaged."""
        self.unavailable: str | None = None
        """Why the stage cannot start here."""
        self._stage, self._workspace, self._params = stage, workspace, params
        self._plan, self._finished, self._ledger = plan, finished, ledger
        self._failures = {pair: list(attempts) for pair, attempts in failures.items()}
        self._report = report
        self._rows: list[Attempt] = []
        self._saved_at = self._started = time.monotonic()
        self._text = ""
        self._reopened = {(task.id, task.key): finished.line(task.id, task.key) for task in plan.reopened}
        """Fresh items that are to be made again, and their lines before that."""
        self._first_tries: deque[str | None] = deque(maxlen=WINDOW)
        """How the last items fared that were tried for the first time: None for done, else the class."""
        self._too_many: str | None = None
        self._environment: str | None = None
        self._signal: str | None = None
        self._pool = self._make_pool(encode)

    def run(self, deadline: float | None) -> None:
        """Raises Stopped (deadline, signal), TooManyFailures and BrokenEnvironment. What is finished is sealed in any
        case."""
        with self._catching_signals():
            try:
                self._drive(deadline)
                self._end(STOP_GRACE_S)
            finally:
                self._end(0)
        if self._environment:
            raise BrokenEnvironment(self._environment)
        if self.unavailable:
            for task in self._pool.pending:
                self.blocked[task.id] = self.unavailable
        elif self._too_many:
            raise TooManyFailures(self._too_many)
        elif self._pool.pending:
            raise Stopped(self._signal or "the budget is used up")

    def _make_pool(self, encode: Callable[[Task], Mapping[str, Any]]) -> Pool:
        run, stage, num_pending = self._params.run, self._stage, len(self._plan.pending)
        cores = num_cores()
        num_workers = min(most_workers(stage, self._params), num_pending or 1)
        num_threads = max(1, cores // num_workers)
        hello = {
            "protocol": PROTOCOL,
            "stage": reference(stage),
            "workspace": str(self._workspace.root),
            "trial": self._workspace.trial,
            "params": self._params.raw,
            "recipe": self._plan.recipe.name,
            "device": run.device if stage.uses_gpu(self._params) else "cpu",
            "num_threads": num_threads,
            "log_level": run.log_level,
        }
        return Pool(
            hello,
            self._workspace.local(stage.name),
            self._plan.pending,
            encode,
            num_workers=num_workers,
            num_at_first=min(num_workers, self._num_worthwhile(num_pending)),
            chunk=run.chunk or max(1, min(MAX_CHUNK, num_pending // (num_workers * CHUNKS_A_WORKER))),
            item_time_limit_s=None if stage.product else run.item_time_limit_s,
            environment=dict.fromkeys(THREAD_LIMITS, str(num_threads)),
        )

    def _num_worthwhile(self, num_pending: int) -> int:
        """Workers that have something to do for longer than it takes to start them, going by past speeds."""
        seconds = self._ledger.seconds_per_item()
        return num_pending if seconds is None else max(1, math.ceil(num_pending * seconds / WORTH_A_WORKER_S))

    def _drive(self, deadline: float | None) -> None:
        while self._pool.has_work:
            if self._signal or self._environment or self.unavailable or self._too_many:
                return
            if deadline is not None and time.monotonic() > deadline:
                return
            self._pool.feed()
            for event in self._pool.wait(SAVE_EVERY_S):
                self._take(event)
            if time.monotonic() - self._saved_at > SAVE_EVERY_S:
                self._save()
                self._report(self._progress())
        self._report(self._progress())

    def _end(self, grace_s: float) -> None:
        """Stop the workers, and take in what they still report."""
        for event in self._pool.stop(grace_s):
            self._take(event)
        self._save()
        self._recover()

    def _take(self, event: Event) -> None:
        match event:
            case Result():
                self._take_result(event)
            case Death():
                self._take_death(event)
            case Notice("progress", text):
                self._text = text
            case Notice("unavailable", text):
                self.unavailable = text
            case Notice("damaged", text):
                self.damaged.append(Path(text))
                again = f"`lostwax run --until {self.damaged[-1].parent.parent.name}` makes anew what is lost"
                self._environment = f"{text} is damaged or gone; {again}"
            case Notice():
                self._environment = event.text

    def _take_result(self, result: Result) -> None:
        task = result.task
        if result.outcome == "blocked":
            self.blocked[task.id] = result.message
            return
        attempt = Attempt(
            task.id,
            task.key,
            result.outcome,
            result.message,
            result.detail,
            result.seconds,
            result.peak_mb,
            result.worker,
            result.exit_code,
            result.figures,
        )
        if result.outcome == DONE:
            self._finish(attempt)
        else:
            self._charge(attempt, task)

    def _take_death(self, death: Death) -> None:
        """Charge the item in hand. What the worker finished without saying so is recovered; the rest goes back."""
        self._recover()
        not_at_fault = []
        for task in death.unfinished:
            if self._finished.line(task.id, task.key) != self._reopened.get((task.id, task.key)):
                self._finish(Attempt(task.id, task.key, DONE, "recovered", worker=death.worker))
            elif (task.id, task.key) == death.in_hand and not death.dismissed:
                self._charge(self._attempt_of(death, task), task)
            else:
                not_at_fault.append(task)
        self._pool.pending.extendleft(reversed(not_at_fault))

    def _attempt_of(self, death: Death, task: Task) -> Attempt:
        if death.timed_out:
            limit = self._params.run.item_time_limit_s
            outcome, message = "timeout", f"took longer than run.item_time_limit_s = {limit:g} s"
        else:
            outcome, message = "killed", _cause_of_death(death.exit_code)
        return Attempt(task.id, task.key, outcome, message, death.log, worker=death.worker, exit_code=death.exit_code)

    def _finish(self, attempt: Attempt) -> None:
        self.computed += 1
        self._rows.append(attempt)
        if (attempt.id, attempt.key) not in self._failures:
            self._first_tries.append(None)
        self._settle(attempt)

    def _charge(self, attempt: Attempt, task: Task) -> None:
        self._rows.append(attempt)
        attempts = self._failures.setdefault((attempt.id, attempt.key), [])
        attempts.append(attempt)
        if len(attempts) == 1:
            self._first_tries.append(attempt.outcome)
            self._judge(attempt)
        if not is_exhausted(attempts, self._params.run.attempts):
            self._pool.pending.append(task)
            return
        if (attempt.id, attempt.key) in self._reopened:
            self._settle(attempt)  # its output of a reduced rung stays
            return
        self.exhausted[attempt.id] = attempts

    def _settle(self, attempt: Attempt) -> None:
        if (attempt.id, attempt.key) in self._reopened:
            self._ledger.settle([(attempt.id, attempt.key)])

    def _judge(self, last: Attempt) -> None:
        """Stop where most items fail at their first try: something is wrong with more than the items."""
        failed = Counter(outcome for outcome in self._first_tries if outcome)
        if len(self._first_tries) == WINDOW and failed.total() > self._params.run.stop_at_failed_share * WINDOW:
            classes = ", ".join(f"{count} {name}" for name, count in failed.most_common())
            self._too_many = (
                f"{failed.total()} of the last {WINDOW} new items failed ({classes}), over run.stop_at_failed_share; "
                f"the last one: {last.message}"
            )

    def _recover(self) -> None:
        recover(self._workspace.local(self._stage.name), self._workspace.shards_dir(self._stage.name))
        self._finished.refresh()

    def _save(self) -> None:
        self._ledger.add(self._rows)
        self._rows = []
        self._saved_at = time.monotonic()

    def _progress(self) -> Progress:
        failed = len(self.exhausted) + len(self.blocked)
        elapsed = time.monotonic() - self._started
        rate = self.computed / elapsed if elapsed > 0 else 0.0
        left = len(self._plan.pending) - self.computed - failed
        return Progress(
            self._stage.name,
            len(self._plan.fresh) + self.computed,
            failed,
            self._plan.total,
            rate,
            left / rate if rate > 0 else None,
            self._text,
        )

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        """SIGTERM, SIGHUP and Ctrl-C stop the stage in order, the second one at once.

        Only the main thread may install handlers (Prefect has its own).
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, _: FrameType | None) -> None:
            if self._signal:
                self._pool.dismiss()
            self._signal = f"stopped by {signal.Signals(number).name}"

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def most_workers(stage: Stage, params: Params) -> int:
    """Worker processes that a stage may have here: one a core, for a stage that uses GPUs one a GPU."""
    run = params.run
    if stage.product or (stage.uses_gpu(params) and run.device.startswith("cuda")):
        return 1
    gpus = num_gpus() if stage.uses_gpu(params) and run.device == "auto" else 0
    most = gpus or stage.max_workers or num_cores()
    return min(run.workers or most, most)


def record_recovered(ledger: Ledger, saved: list[tuple[str, str]]) -> int:
    """Write down items that were finished but never reported; returns how many."""
    new = [pair for pair in saved if not ledger.is_done(*pair)]
    ledger.add([Attempt(item_id, key, DONE, "recovered") for item_id, key in new])
    return len(new)


def _cause_of_death(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "its worker was killed by signal 9 (by hand, or by the kernel for want of memory)"
    if exit_code < 0:
        return f"its worker died of {signal.Signals(-exit_code).name}"
    return f"its worker ended with exit code {exit_code}"

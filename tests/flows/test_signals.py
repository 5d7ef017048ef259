"""Signals end a run in order, and wait while DVC writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows import dvc
from flows.signals import END, ending_in_order, postponing_signals
from tests.support import ROOT

RUN = """
import os, signal
from prefect import flow
from prefect.exceptions import TerminationSignal
from flows.signals import ending_in_order, postponing_signals

@flow(persist_result=False)
def flow_run():
    with postponing_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        print("written whole", flush=True)
    print("never", flush=True)

try:
    with ending_in_order():
        flow_run()
except TerminationSignal as stopped:
    print("ended by", signal.Signals(stopped.signal).name, flush=True)
"""


@pytest.mark.parametrize("number", END)
def test_a_signal_to_end_is_an_exception(number: signal.Signals) -> None:
    from prefect.exceptions import TerminationSignal

    before = signal.getsignal(number)
    with pytest.raises(TerminationSignal) as caught, ending_in_order():
        os.kill(os.getpid(), number)
    assert caught.value.signal == number
    assert signal.getsignal(number) is before


def test_a_signal_waits_for_the_end_of_what_must_be_written_whole() -> None:
    from prefect.exceptions import TerminationSignal

    written = []
    with pytest.raises(TerminationSignal), ending_in_order(), postponing_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        written.append("whole")
    assert written == ["whole"]


def test_a_flow_run_that_is_terminated_while_something_is_written_ends_in_order(prefect_api: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": prefect_api}
    done = subprocess.run([sys.executable, "-P", "-c", RUN], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["written whole", "ended by SIGTERM"]), done.stderr


def test_dvc_is_not_interrupted_by_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "import os, signal, sys, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.3); open('done', 'w')"
    monkeypatch.setattr(dvc, "DVC", [sys.executable, "-c", slow])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            dvc.call(tmp_path, "commit")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "done").exists()

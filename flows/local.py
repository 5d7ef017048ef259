"""`lostwax run`: the flow in this process, on a server of its own where none is running."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import sys
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flows.results import results_tables
from flows.server import OwnServer, api_of, prefect_environment, require_answer, running_api
from flows.signals import ending_in_order
from tasks.__main__ import describe
from tasks.collections.holder import HeldByAnother
from tasks.engine.outcome import OK, STOPPED, Outcome, Progress, StageFailed
from tasks.engine.trial import trial_of
from tasks.workspace import Workspace

PREFECTS_QUEUES = ("APILogWorker", "EventsWorker")
QUIET_AND_SHORT = {"PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL", "PREFECT_CLIENT_MAX_RETRIES": "3"}
"""Of a server that has gone, Prefect need not say again and again what the command says once; and waits 15 s for it."""
FULL_BYTES = 1 << 20
"""A disk with less room is full."""


def run_here(
    workspace: Workspace, *, until: str | None, overrides: list[str], strict: bool, deadline: float | None
) -> int:
    """Run the stages as a Prefect flow run; returns the exit code. Raises HeldByAnother, StageFailed, ValueError."""
    own = connect(workspace)
    import httpx
    from prefect import flow, get_run_logger
    from prefect.exceptions import PrefectException, TerminationSignal
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.distill import run_stages
    from flows.stages import StageEnded

    terminal = Terminal()
    outcomes: list[Outcome] = []
    ours: list[Exception] = []

    @flow(name="distill", flow_run_name=workspace.root.name, persist_result=False, validate_parameters=False)
    def distill_here() -> None:
        logger = get_run_logger()

        def say(text: str) -> None:
            terminal.say(text)
            logger.info(text)

        try:
            outcomes.extend(
                run_stages(
                    workspace,
                    until=until,
                    overrides=overrides,
                    strict=strict,
                    deadline=deadline,
                    listener=terminal.progress,
                    say=say,
                )
            )
        except (StageEnded, StageFailed, HeldByAnother, ValueError) as error:
            ours.append(error)  # if Prefect cannot write it down, its own error would stand in front of it
            raise

    if own:
        own.wait()
    try:
        # Heartbeats tell automations that a worker is gone; here nobody listens, and each run would wait a second more.
        with ending_in_order(), terminal, temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            distill_here()
    except TerminationSignal as stopped:
        terminal.say(f"stopped by {signal.Signals(stopped.signal).name}; the same command resumes")
        return STOPPED
    except (StageEnded, httpx.HTTPError, PrefectException) as error:
        cause = ours[0] if ours else error
        if isinstance(cause, StageEnded):
            terminal.say(cause.outcome.line())
            return cause.outcome.exit_code
        if ours:
            raise cause from error
        problem = why_prefect_failed(error, workspace)
        if not outcomes:
            raise StageFailed(f"{problem}; what is finished is safe: run the same command again") from error
        terminal.say(f"every stage has ended, of which Prefect knows nothing: {problem}")
    terminal.results(trial_of(workspace, overrides), {outcome.stage for outcome in outcomes})
    return OK


def connect(workspace: Workspace) -> OwnServer | None:
    """Point Prefect, which must not have been imported yet, at a server: the user's, the workspace's, or our own.

    Returns our own, still starting; it is stopped when this process ends, after Prefect has sent its last logs.
    Raises ValueError and StageFailed for a PREFECT_API_URL that is no address, or where nobody answers.
    Prefect's logs go to the server alone: the terminal shows what this command says.
    """
    own = None
    if chosen := os.environ.get("PREFECT_API_URL"):
        api = api_of(chosen)
        require_answer(api)
    elif (running := running_api(workspace)) is not None:
        api = running
    else:
        own = OwnServer(workspace)
        api = own.api
        atexit.register(own.stop)
    os.environ.update(QUIET_AND_SHORT | prefect_environment(workspace))
    logging.raiseExceptions = False  # Prefect would print what it cannot send to its server
    os.environ["PREFECT_API_URL"] = api
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: not is_prefects(record))
    return own


def why_prefect_failed(error: Exception, workspace: Workspace) -> str:
    """A full disk stops Prefect's database before anything of ours; else its server has gone."""
    if shutil.disk_usage(workspace.root).free < FULL_BYTES:
        return f"the disk is full at {workspace.root}: free some space"
    from flows.reports import words_of

    return f"Prefect's server at {os.environ['PREFECT_API_URL']} failed or answers no more ({words_of(error)})"


def is_prefects(record: logging.LogRecord) -> bool:
    """Whether a log record is Prefect's: its queues have loggers of their own, and say that they are being emptied."""
    return record.name.startswith("prefect.") or record.name in PREFECTS_QUEUES


class Messages(Console):
    """Standard error; wide enough for a table where it is no terminal."""

    def __init__(self) -> None:
        super().__init__(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)

    def on_broken_pipe(self) -> None:
        """Nobody reads on: the run goes on without a word."""
        self.quiet = True


@dataclass
class Terminal:
    """A live line while a stage runs, a lasting line when it ends; plain lines where there is no terminal."""

    console: Console = field(default_factory=Messages)
    live: Live | None = None

    def __enter__(self) -> Terminal:
        if sys.stderr.isatty():
            self.live = Live(Text(""), console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def progress(self, progress: Progress) -> None:
        if self.live:
            self.live.update(Text(describe(progress)))

    def say(self, text: str) -> None:
        if self.live:
            self.live.update(Text(""))
        self.console.print(text, soft_wrap=True, markup=False)

    def results(self, workspace: Workspace, stages: set[str]) -> None:
        """What the run led to: the table of an evaluation, and where the report is."""
        if "evaluate" in stages:
            for table in results_tables(workspace):
                self.console.print(table)
        page = workspace.published("report") / "index.html"
        if "report" in stages and page.is_file():
            self.say(f"the page: {page}")

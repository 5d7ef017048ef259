"""`lostwax run`: the flow in this process, on the workspace's own server where none is running."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flows.server import running_server
from tasks.__main__ import describe
from tasks.outcome import OK, Outcome, Progress
from tasks.workspace import Workspace


def run_here(
    workspace: Workspace, *, until: str | None, overrides: list[str], strict: bool, deadline: float | None
) -> int:
    """Run the stages as a Prefect flow run; returns the exit code. Raises HeldByAnother, StageFailed, ValueError."""
    configure_prefect(workspace)
    from prefect import flow

    from flows.distill import run_stages
    from flows.stages import StageEnded

    terminal = Terminal()
    outcomes: list[Outcome] = []

    @flow(name="distill", flow_run_name=workspace.root.name, persist_result=False, validate_parameters=False)
    def distill_here() -> None:
        outcomes.extend(
            run_stages(
                workspace,
                until=until,
                overrides=overrides,
                strict=strict,
                deadline=deadline,
                listener=terminal.progress,
                say=terminal.say,
            )
        )

    try:
        with terminal:
            distill_here()
    except StageEnded as ended:
        terminal.say(ended.outcome.line())
        return ended.outcome.exit_code
    page = workspace.artifacts("report") / "index.html"
    if outcomes and outcomes[-1].stage == "report" and page.is_file():
        terminal.say(f"the page: {page}")
    return OK


def configure_prefect(workspace: Workspace) -> None:
    """Settings that must be in place before Prefect is imported; what the user has set stays."""
    home = workspace.root / ".lostwax" / "prefect"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    }
    if url := running_server(workspace):
        settings["PREFECT_API_URL"] = url
    for name, value in settings.items():
        os.environ.setdefault(name, value)


@dataclass
class Terminal:
    """A live line while a stage runs, a lasting line when it ends; plain lines where there is no terminal."""

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
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

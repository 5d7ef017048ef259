"""`python -P -m tasks STAGE`: run one stage of the workspace in the current folder. dvc.yaml calls exactly this."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import lostwax
from tasks.engine.outcome import FAILED, HELD, WRONG_USAGE, Progress, StageFailed

PRINT_EVERY_S = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Run a stage; returns its exit code."""
    lostwax.prepare()  # before `models` is imported, which others have too
    from tasks.collections.files import explain
    from tasks.collections.holder import HeldByAnother
    from tasks.engine.runner import run_stage
    from tasks.engine.trial import begin_trial
    from tasks.order import ORDER, load_stage
    from tasks.params import load_params
    from tasks.versions import check_versions
    from tasks.workspace import Workspace

    parser = argparse.ArgumentParser(prog="python -P -m tasks", description=__doc__)
    parser.add_argument("stage", help=", ".join(ORDER))
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--set", action="append", default=[], metavar="BLOCK.NAME=VALUE", dest="overrides")
    parser.add_argument("--strict", action="store_true", help="any exhausted item makes exit code 3")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        workspace = Workspace.find(chosen.workspace)
        stage = load_stage(chosen.stage)
        params = load_params(workspace.params_file, chosen.overrides)
        params.check_device()
        versions = check_versions(workspace, params)
    except (ValueError, FileNotFoundError) as error:
        return _say(str(error), WRONG_USAGE)
    except OSError as error:
        return _say(explain(error, chosen.workspace), FAILED)
    try:
        workspace = begin_trial(workspace, chosen.overrides, ORDER)
        outcome = run_stage(stage, workspace, params, versions, strict=chosen.strict, report=Printer())
    except HeldByAnother as error:
        return _say(str(error), HELD)
    except StageFailed as error:
        return _say(str(error), FAILED)
    for notice in outcome.notices:
        _say(f"{stage.name}: {notice}", outcome.exit_code)
    return _say(outcome.line(), outcome.exit_code)


class Printer:
    """A line every few seconds, for logs and for DVC's output."""

    def __init__(self) -> None:
        self._printed_at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._printed_at >= PRINT_EVERY_S:
            self._printed_at = time.monotonic()
            _say(describe(progress), 0)


def describe(progress: Progress) -> str:
    """`teach 12/60 (1 failed), 0.8 items/s, 60 s left`."""
    failed = f" ({progress.failed} failed)" if progress.failed else ""
    left = f", {progress.left_s:.0f} s left" if progress.left_s is not None else ""
    text = f": {progress.text}" if progress.text else f", {progress.rate:.3g} items/s{left}"
    return f"{progress.stage} {progress.done}/{progress.total}{failed}{text}"


def _say(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())

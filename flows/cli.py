"""The `lostwax` command. Every command works from any folder with --workspace; tables take --json."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import typer

from flows.commands import generate, init, items, params, plan, run, server, status, teacher, upkeep
from flows.commands.printing import finish_printing, say
from tasks.collections.files import explain
from tasks.collections.holder import HeldByAnother
from tasks.engine.outcome import FAILED, HELD, OK, STOPPED, WRONG_USAGE, StageFailed

app = typer.Typer(
    help="lostwax: from heavyweight image-to-3D teachers to small, fast students.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
teacher_app = typer.Typer(help="Teachers: their environments, and a trial of one.", no_args_is_help=True)
app.add_typer(teacher_app, name="teacher")
teacher_app.command("try")(teacher.teacher_try)
teacher_app.command("setup")(teacher.teacher_setup)
students_app = typer.Typer()
app.add_typer(students_app, name="students")
students_app.callback(invoke_without_command=True)(generate.students)
students_app.command("export")(generate.students_export)
VERBS = (
    init.init,
    run.run,
    plan.plan,
    params.params,
    status.status,
    items.explain,
    items.show,
    items.retry,
    upkeep.gc,
    upkeep.doctor,
    generate.generate,
    generate.export_encoder,
    generate.fetch_model,
    server.up,
    server.down,
    server.deploy,
    server.worker,
)
for verb in VERBS:
    app.command()(verb)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(run.repro)


def main() -> NoReturn:
    """Run the command; errors that a person can act on end in one line and DESIGN's exit codes."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sys.exit(guarded(lambda: app(prog_name="lostwax", standalone_mode=False)))


def guarded(command: Callable[[], object]) -> int:
    """The exit code of a command, with its output written."""
    try:
        code = _exit_code(command)
        finish_printing()
        return code
    except BrokenPipeError:  # who read our output went away, as `head` does
        return FAILED
    except OSError as error:
        say(explain(error, "standard output"))
        with suppress(OSError):
            finish_printing()
        return FAILED


def _exit_code(command: Callable[[], object]) -> int:
    try:
        code = command()
        return code if isinstance(code, int) else OK
    except typer.Exit as stop:
        return stop.exit_code
    except HeldByAnother as error:
        say(str(error))
        return HELD
    except StageFailed as error:
        say(str(error))
        return FAILED
    except typer.Abort:
        return STOPPED
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "lostwax"
        say(f"{error.format_message().rstrip('.')}; `{where} --help` says more")
        return WRONG_USAGE
    except ValueError as error:
        say(str(error))
        return WRONG_USAGE
    except OSError as error:
        if error.errno is not None:
            raise  # the system's, not ours
        say(str(error))
        return WRONG_USAGE


if __name__ == "__main__":
    main()

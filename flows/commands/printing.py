"""What commands print: results on standard output, as a table or as JSON; words on standard error."""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.style import StyleType
from rich.table import Table
from rich.text import Text


class TextTable(Table):
    """Strings are text here: brackets in a name from outside are no markup, and `:car:` is no picture."""

    def add_row(self, *cells: RenderableType | None, style: StyleType | None = None, end_section: bool = False) -> None:
        texts = (Text(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*texts, style=style, end_section=end_section)


def make_table(*columns: str, title: str | None = None) -> Table:
    table = TextTable(title=Text(title) if title else None, box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show_table(table: Table) -> None:
    Output().print(table)


class Output(Console):
    """Standard output; wide enough for a table where it is no terminal."""

    def __init__(self) -> None:
        super().__init__(width=None if sys.stdout.isatty() else 160)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))  # Rich would end the process


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def say(text: str) -> None:
    """A line for people; where nobody listens any more, nothing."""
    with suppress(OSError):
        sys.stderr.write(text + "\n")


def finish_printing() -> None:
    """Write out what waits in buffers. Raises OSError where standard output takes no more; what waited is dropped then.

    Python would try again at its end, and complain in its own words.
    """
    try:
        sys.stdout.flush()
    except OSError:
        _drop(sys.stdout)
        raise
    finally:
        with suppress(OSError):
            sys.stderr.flush()


def _drop(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

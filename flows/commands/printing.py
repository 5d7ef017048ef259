"""What commands print: results on standard output, as a table or as JSON; words on standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table


def make_table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def say(text: str) -> None:
    sys.stderr.write(text + "\n")

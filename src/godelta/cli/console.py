"""The console that every command prints to."""

import json
import sys
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

WIDE = 160  # columns where the output is no terminal: a file or a pipe has no edge to wrap at
TEXT_COLUMNS = frozenset({"structure", "campaign", "system", "state", "formula", "reference", "doing"})

console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)


def table(*columns: str) -> Table:
    """A plain table; numbers are set right."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="left" if column in TEXT_COLUMNS else "right", no_wrap=True)
    return made


def print_json(value: Any) -> None:
    """Print a value as JSON, one document, nothing else."""
    print(json.dumps(value, indent=2, default=_plain))  # noqa: T201 - rich would wrap and colour it


def print_json_line(value: Any) -> None:
    """Print a value as JSON on one line, as for a program that reads line by line."""
    print(json.dumps(value, default=_plain), flush=True)  # noqa: T201 - rich would wrap and colour it


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)

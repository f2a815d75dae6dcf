"""The console that every command prints to."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(highlight=False, soft_wrap=True)


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; numbers, in columns whose header ends in a unit or `#`, are set right."""
    made = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        right = column.endswith(("eV", "eV/atom", "s", "#")) and column not in ("Status", "evaluations")
        made.add_column(column.removesuffix("#").strip() or "#", justify="right" if right else "left")
    return made


def print_json(value: Any) -> None:
    """Print a value as JSON, one document, nothing else."""
    print(json.dumps(value, indent=2, default=str))  # noqa: T201 - rich would wrap and colour it

"""Options that many commands share; nothing heavy is imported here."""

from pathlib import Path
from typing import Annotated, Literal

import typer

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Folder of the workspace [default: the nearest one above]"),
]
FormatOption = Annotated[Literal["table", "json"], typer.Option("--format", help="How to print")]

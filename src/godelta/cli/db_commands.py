"""`godelta db`: parses, calls, prints; nothing heavy is imported here."""

from pathlib import Path
from typing import Annotated

import typer

from godelta.cli.options import WorkspaceOption

db_app = typer.Typer(help="The workspace's database: its private server, backups.", no_args_is_help=True)


@db_app.command("start")
def db_start(workspace: WorkspaceOption = None) -> None:
    """Start the workspace's database server."""
    from godelta.cli.db import start

    start(workspace)


@db_app.command("stop")
def db_stop(workspace: WorkspaceOption = None) -> None:
    """Stop the workspace's database server."""
    from godelta.cli.db import stop

    stop(workspace)


@db_app.command("status")
def db_status(workspace: WorkspaceOption = None) -> None:
    """Say whether the workspace's database server runs."""
    from godelta.cli.db import show

    raise typer.Exit(show(workspace))


@db_app.command("backup")
def db_backup(
    file: Annotated[
        Path | None, typer.Argument(help="File to write [default: NAME-TIME.zip in this folder]")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Write all campaigns, as they are at this moment, to one file."""
    from godelta.cli.db import write_backup

    raise typer.Exit(write_backup(file, workspace))


@db_app.command("restore")
def db_restore(
    file: Annotated[Path, typer.Argument(help="A file of `godelta db backup`")],
    force: Annotated[bool, typer.Option("--force", help="Replace what the database holds")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the database [default: the workspace's]")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Bring the database back to what a backup holds."""
    from godelta.cli.db import read_backup

    raise typer.Exit(read_backup(file, workspace, force=force, name=name))

"""The command line: every sub-command parses, calls, prints.

Nothing heavy is imported here: `godelta --help` and tab completion stay instant.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    name="godelta",
    help="Find the lowest-energy structure of a cluster or a surface, with active Δ-learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db_app = typer.Typer(help="The workspace's database: its private server, backups.", no_args_is_help=True)
app.add_typer(db_app, name="db")

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Folder of the workspace [default: the nearest one above]"),
]
FormatOption = Annotated[Literal["table", "json"], typer.Option("--format", help="How to print")]


def _version(wanted: bool) -> None:
    if wanted:
        from godelta import __version__

        typer.echo(f"godelta {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    """Find the lowest-energy structure of a cluster or a surface, with active Δ-learning."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make")] = Path(),
) -> None:
    """Make a workspace: settings, fw_config/ and example campaigns."""
    from godelta.cli.init import make_workspace

    make_workspace(folder)


@app.command()
def check(
    campaign: Annotated[Path | None, typer.Argument(help="Campaign file to check as well")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Check the database, the foundation's weights and the reference: each line ok, or how to mend it."""
    from godelta.cli.check import check_everything

    raise typer.Exit(check_everything(workspace, campaign))


@app.command()
def run(
    campaign: Annotated[Path, typer.Argument(help="Campaign file")],
    workspace: WorkspaceOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines, not a live table")] = False,
) -> None:
    """Run a campaign on this machine. Ctrl-C is safe: the same command goes on."""
    from godelta.cli.run import run_campaign

    raise typer.Exit(run_campaign(campaign, workspace, workers=workers, plain=plain))


@app.command()
def status(
    campaign: Annotated[str | None, typer.Argument(help="Name of a campaign [default: all]")] = None,
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """Show how far campaigns are: rounds, evaluations, best energy."""
    from godelta.cli.status import show_status

    show_status(campaign, workspace, output)


@app.command()
def best(
    campaign: Annotated[str, typer.Argument(help="Name of a campaign")],
    count: Annotated[int, typer.Option("-n", min=1, help="How many")] = 10,
    export: Annotated[
        Path | None, typer.Option(help="Write the structures to a file, in any format that ASE writes")
    ] = None,
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """List a campaign's lowest structures at the reference level."""
    from godelta.cli.best import show_best

    show_best(campaign, workspace, count=count, export=export, output=output)


@app.command()
def query(
    formula: Annotated[str | None, typer.Option(help="Formula of the whole structure, e.g. Ag4S2")] = None,
    elements: Annotated[str | None, typer.Option(help="Elements that must occur, e.g. Ag,S")] = None,
    campaign: Annotated[str | None, typer.Option(help="Name of a campaign")] = None,
    reference: Annotated[str | None, typer.Option(help="Engine, or the start of a reference hash")] = None,
    max_energy: Annotated[float | None, typer.Option(help="Highest reference energy, eV")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows")] = 50,
    export: Annotated[Path | None, typer.Option(help="Write the structures to a file")] = None,
    workspace: WorkspaceOption = None,
    output: Annotated[Literal["table", "json", "extxyz"], typer.Option("--format")] = "table",
) -> None:
    """Find evaluated structures of all campaigns."""
    from godelta.cli.query import QueryOptions, show_query

    options = QueryOptions(formula, elements, campaign, reference, max_energy, limit)
    show_query(options, workspace, export=export, output=output)


@app.command("logs")
def show_logs(
    campaign: Annotated[str | None, typer.Argument(help="Name of a campaign; none: every line")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the campaign ends, or Ctrl-C")
    ] = False,
    level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Leave out what matters less")
    ] = "info",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines")] = 100,
    workspace: WorkspaceOption = None,
) -> None:
    """Show what a campaign's processes did, in local time. Needs no database."""
    from godelta.cli.logs import print_logs

    raise typer.Exit(print_logs(campaign, workspace, follow=follow, level=level, lines=lines))


@app.command()
def schema() -> None:
    """Print the JSON schema of a campaign file."""
    from godelta.cli.schema import print_schema

    print_schema()


@app.command()
def worker(
    category: Annotated[
        list[str] | None, typer.Option(help="Category of jobs to take, repeatable [default: all]")
    ] = None,
    campaign: Annotated[
        str | None, typer.Option(help="Take this campaign's jobs only, and leave when it has ended")
    ] = None,
    idle: Annotated[
        float | None, typer.Option(min=0, help="Leave after so many seconds without a job")
    ] = None,
    workspace: WorkspaceOption = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Take jobs from the queue until told to stop."""
    from godelta.cli.worker import run_worker

    run_worker(workspace, category or [], campaign, idle, parent)


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


def main() -> None:
    """Entry point: errors that a user can mend are messages, not tracebacks."""
    from godelta.errors import GodeltaError

    try:
        app()
    except GodeltaError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        if os.environ.get("GODELTA_DEBUG"):
            raise
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        mend = "see that the disk has room, and that you may read and write there"
        _fail(f"{where}{error.strerror or error}\n  {mend}", 1)
    except Exception as error:
        if os.environ.get("GODELTA_DEBUG") or type(error).__module__.split(".")[0] != "pymongo":
            raise
        _fail(f"the database does not answer: {error}\n  `godelta db status` tells more", 1)


def _fail(message: str, code: int) -> None:
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(message, err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main()

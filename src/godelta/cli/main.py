"""The command line: every sub-command parses, calls, prints.

Nothing heavy is imported here: `godelta --help` and tab completion stay instant.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from godelta.cli.db_commands import db_app
from godelta.cli.foundations import foundations
from godelta.cli.lattice import lattice
from godelta.cli.options import FormatOption, WorkspaceOption
from godelta.cli.questions import best, compare, explain, models, moves, phase_diagram, query, report

app = typer.Typer(
    name="godelta",
    help="Find the lowest-energy structure of a cluster or a surface, with active Δ-learning.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(db_app, name="db")


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
    slurm: Annotated[
        bool, typer.Option("--slurm", help="For a cluster: asks what the options below do not say")
    ] = False,
    partition: Annotated[str | None, typer.Option(help="Partition of batch jobs")] = None,
    account: Annotated[str | None, typer.Option(help="Account to charge")] = None,
    gpu_partition: Annotated[str | None, typer.Option(help="Partition of searches on GPUs")] = None,
    gpus: Annotated[str | None, typer.Option(help="GPUs of a search: number, or type:number")] = None,
    module: Annotated[list[str] | None, typer.Option(help="Module to load, repeatable")] = None,
    environment: Annotated[
        str | None, typer.Option(help="Environment with godelta: folder or line of shell [default: this one]")
    ] = None,
    foundation: Annotated[
        list[str] | None, typer.Option(help="Foundation, or foundation:ENVIRONMENT, repeatable")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Engine of the reference")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="MPI ranks of the reference")] = None,
    walltime: Annotated[str | None, typer.Option(help="Wall time of batch jobs, HH:MM:SS")] = None,
    uri_env: Annotated[
        str | None, typer.Option("--mongodb-uri-env", help="Environment variable with the database's URI")
    ] = None,
    uri_file: Annotated[
        str | None, typer.Option("--mongodb-uri-file", help="File with the database's URI, mode 0600")
    ] = None,
) -> None:
    """Make a workspace: settings, fw_config/ and example campaigns."""
    if not slurm:
        from godelta.cli.init import make_workspace

        make_workspace(folder)
        return
    from godelta.cli.init_slurm import SlurmAnswers, make_cluster_workspace

    answers = SlurmAnswers(
        partition, account, gpu_partition, gpus, module, environment, foundation, reference, ranks, walltime
    )
    make_cluster_workspace(folder, answers, uri_env, uri_file)


@app.command()
def check(
    campaign: Annotated[Path | None, typer.Argument(help="Campaign file to check as well")] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Also send a small batch job per class, which looks around there")
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=0, help="With --slurm: how long a batch job may wait in the queue")
    ] = 300.0,
    workspace: WorkspaceOption = None,
    from_worker: Annotated[str | None, typer.Option(hidden=True)] = None,
    category: Annotated[str | None, typer.Option(hidden=True)] = None,  # noqa: ARG001 - batch scripts add it
) -> None:
    """Check the database, the foundation's weights and the reference: each line ok, or how to mend it."""
    from godelta.cli.check import check_everything

    if slurm or from_worker:
        from godelta.cli.check_cluster import check_cluster, check_from_worker

        if from_worker:
            raise typer.Exit(check_from_worker(workspace, from_worker))
        raise typer.Exit(check_cluster(workspace, campaign, seconds))
    raise typer.Exit(check_everything(workspace, campaign))


@app.command()
def run(
    campaign: Annotated[Path, typer.Argument(help="Campaign file")],
    workspace: WorkspaceOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Print lines, not a live table")] = False,
) -> None:
    """Run a campaign, or those of a study, on this machine. Ctrl-C is safe: the same command goes on."""
    from godelta.cli.run import run_campaign

    raise typer.Exit(run_campaign(campaign, workspace, workers=workers, plain=plain))


@app.command()
def benchmark(
    file: Annotated[Path, typer.Argument(help="Benchmark file: a campaign, what varies, seeds")],
    workspace: WorkspaceOption = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Worker processes, each at work on a campaign of its own")
    ] = 1,
    results_only: Annotated[
        bool, typer.Option("--results-only", help="Run nothing; report on what is there")
    ] = False,
    output: FormatOption = "table",
) -> None:
    """Compare methods over seeds: success against evaluations and cost. Ctrl-C is safe."""
    from godelta.cli.benchmark import BenchmarkOptions, run_benchmark

    options = BenchmarkOptions(workers, results_only, output)
    raise typer.Exit(run_benchmark(file, workspace, options))


@app.command()
def submit(
    campaigns: Annotated[list[Path] | None, typer.Argument(help="Campaign files, or benchmark files")] = None,
    launch: Annotated[
        bool, typer.Option("--launch", help="Send batch jobs to SLURM until no campaign runs any more")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="With --launch: look once and leave, as from cron")
    ] = False,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks at the queue")] = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show jobs, batch scripts and estimated hours; do nothing")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Put campaigns into the queue of a cluster, and send batch jobs for them."""
    from godelta.cli.submit import SubmitOptions, submit_campaigns

    if dry_run:
        from godelta.cli.dry_run import show_plan

        show_plan(campaigns or [], workspace)
        return
    options = SubmitOptions(launch or once, once, every)
    raise typer.Exit(submit_campaigns(campaigns or [], workspace, options))


@app.command()
def restart(
    campaigns: Annotated[
        list[str] | None,
        typer.Argument(help="Names, or files with changed settings [default: all that run or failed]"),
    ] = None,
    retry: Annotated[
        list[str] | None,
        typer.Option(help="Reason of failed evaluations to try again, repeatable; all, none [default: lost]"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, as from cron")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is wrong")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Find what keeps campaigns from going on, and mend it. Safe at any time. Exit code 3: not mended."""
    from godelta.cli.restart import Answers, restart_campaigns

    answers = Answers(tuple(retry or ()), yes, dry_run)
    raise typer.Exit(restart_campaigns(campaigns or [], workspace, answers))


@app.command()
def pause(
    campaigns: Annotated[list[str] | None, typer.Argument(help="Names")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are running")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Have no new job of campaigns taken; jobs under way finish."""
    from godelta.cli.pausing import pause_campaigns

    raise typer.Exit(pause_campaigns(campaigns or [], workspace, every=every))


@app.command()
def resume(
    campaigns: Annotated[list[str] | None, typer.Argument(help="Names")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are paused")] = False,
    reopen: Annotated[bool, typer.Option("--reopen", help="Cancelled ones as well")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Have paused campaigns go on."""
    from godelta.cli.pausing import resume_campaigns

    raise typer.Exit(resume_campaigns(campaigns or [], workspace, every=every, reopen=reopen))


@app.command()
def cancel(
    campaigns: Annotated[list[str] | None, typer.Argument(help="Names")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are not finished")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Give campaigns up: nothing of them is left in the queue; what has been evaluated stays."""
    from godelta.cli.pausing import cancel_campaigns

    raise typer.Exit(cancel_campaigns(campaigns or [], workspace, every=every, yes=yes))


@app.command()
def status(
    campaign: Annotated[str | None, typer.Argument(help="Name of a campaign [default: all]")] = None,
    state: Annotated[
        list[str] | None, typer.Option(help="Campaigns in this state only, as running or failed, repeatable")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Campaigns with this tag only, repeatable")] = None,
    limit: Annotated[int | None, typer.Option("-n", min=1, help="Most campaigns [default: 100]")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks of --watch")] = 2.0,
    workspace: WorkspaceOption = None,
    output: FormatOption = "table",
) -> None:
    """Show how far campaigns are; of one also who works on it, what failed, and what it waits for."""
    from godelta.cli.status import StatusOptions, show_status

    options = StatusOptions(tuple(state or ()), tuple(tag or ()), limit, every if watch else None)
    show_status(campaign, workspace, output, options)


app.command()(best)
app.command()(models)
app.command()(moves)
app.command()(explain)
app.command()(report)
app.command()(query)
app.command("phase-diagram")(phase_diagram)
app.command()(compare)


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any free one")] = 8765,
    workspace: WorkspaceOption = None,
) -> None:
    """Show status and reports of all campaigns to browsers on this machine, until Ctrl-C. Changes nothing."""
    from godelta.cli.serve import serve_reports

    serve_reports(workspace, port)


@app.command("export")
def export_(
    campaign: Annotated[str, typer.Argument(help="Name of a campaign")],
    file: Annotated[
        Path | None, typer.Argument(help="File to write [default: CAMPAIGN-TIME.zip in this folder]")
    ] = None,
    features: Annotated[
        bool, typer.Option("--features", help="Include the cache of descriptors: larger, goes on faster")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write one campaign to a file, with all that it needs to go on in another database."""
    from godelta.cli.transfer import write_export

    raise typer.Exit(write_export(campaign, file, workspace, features=features))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file of `godelta export`")],
    name: Annotated[str | None, typer.Option(help="Name of the campaign here [default: as it was]")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Take in a campaign that `godelta export` wrote; to do it twice changes nothing."""
    from godelta.cli.transfer import read_export

    raise typer.Exit(read_export(file, workspace, name=name))


@app.command()
def migrate(
    backup: Annotated[
        Path | None, typer.Option(help="File for the backup [default: in the workspace's folder backups]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Though workers seem to be at work")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Bring a database that an older godelta wrote to this one's schema, after a backup."""
    from godelta.cli.migrate import migrate_database

    raise typer.Exit(migrate_database(workspace, target=backup, force=force))


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


app.command()(foundations)
app.command()(lattice)


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


def main() -> None:
    """Entry point: errors that a user can mend are messages, not tracebacks."""
    from godelta.errors import GodeltaError
    from godelta.redaction import show_without_passwords

    show_without_passwords()
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
        from godelta.store.credentials import lost_access

        _fail(
            lost_access(error) or f"the database does not answer: {error}\n  `godelta db status` tells more",
            1,
        )


def _fail(message: str, code: int) -> None:
    from godelta.redaction import redact

    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(redact(message), err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main()

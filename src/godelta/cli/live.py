"""Live progress of a campaign: a table that redraws itself, or lines where there is no terminal."""

import time
from collections.abc import Callable
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from godelta.cli.console import console
from godelta.store.progress import Progress

REFRESH_S = 0.5
ENDED = ("finished", "failed", "cancelled", "paused")


def follow(read: Callable[[], Progress], tend: Callable[[Progress], None], *, plain: bool) -> Progress:
    """Show progress until the campaign has ended; `tend` is called between two looks."""
    progress = read()
    if plain or not console.is_terminal:
        return _follow_plain(progress, read, tend)
    with Live(render(progress), console=console, refresh_per_second=4, transient=True) as live:
        while progress.state not in ENDED:
            time.sleep(REFRESH_S)
            tend(progress)
            progress = read()
            live.update(render(progress))
    return progress


def _follow_plain(
    progress: Progress, read: Callable[[], Progress], tend: Callable[[Progress], None]
) -> Progress:
    shown = None
    while True:
        rounds = sum(chain.round or 0 for chain in progress.chains)
        done = (progress.ok, progress.failed, rounds, str(progress.refinement))
        if done != shown:
            shown = done
            console.print(line(progress))
        if progress.state in ENDED:
            return progress
        time.sleep(REFRESH_S)
        tend(progress)
        progress = read()


def line(progress: Progress) -> str:
    """One line: rounds, evaluations, best energy, what is refined, time."""
    rounds = " ".join(
        f"{chain.round + 1}/{progress.rounds}" if chain.round is not None else "-"
        for chain in progress.chains
    )
    best = "none yet" if progress.best_energy is None else f"{progress.best_energy:.4f} eV"
    refining = f" | {progress.refinement}" if progress.refinement is not None else ""
    return (
        f"round {rounds} | evaluations {progress.ok} ok, {progress.failed} failed of {progress.budget}"
        f" | best {best}{refining} | {_clock(progress.elapsed_s)} gone, {_left(progress)} left"
    )


def render(progress: Progress) -> RenderableType:
    """The live table."""
    head = Text.assemble(
        (progress.name, "bold"), f"  {progress.formula}  ", (progress.state, "cyan"),
        f"   {_clock(progress.elapsed_s)} gone, {_left(progress)} left   ", ("Ctrl-C stops safely", "dim"),
    )  # fmt: skip
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("chain", "round", "doing", "iteration", "acceptance", "best of model, eV"):
        table.add_column(column, justify="left" if column == "doing" else "right")
    for chain in progress.chains:
        table.add_row(
            str(chain.chain),
            "-" if chain.round is None else f"{chain.round + 1}/{progress.rounds}",
            chain.state,
            "-" if chain.iteration is None else str(chain.iteration),
            "-" if chain.acceptance is None else f"{chain.acceptance:.0%}",
            "-" if chain.model_best is None else f"{chain.model_best:.3f}",
        )
    best = "none yet" if progress.best_energy is None else f"{progress.best_energy:.4f} eV"
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        "evaluations",
        ProgressBar(total=progress.budget, completed=progress.ok + progress.failed, width=30),
        f"{progress.ok} ok, {progress.failed} failed, {progress.pending} running of {progress.budget}",
        Text.assemble("  best ", (best, "bold green")),
    )
    refining = [] if progress.refinement is None else [Text(str(progress.refinement), style="cyan")]
    return Group(head, table, bar, *refining)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _left(progress: Progress) -> str:
    return "?" if progress.left_s is None else f"about {_clock(progress.left_s)}"

"""`godelta submit --dry-run`: what would be put into the queue."""

from collections.abc import Sequence
from pathlib import Path

from godelta.cli.console import console, table
from godelta.cli.submit import read_all
from godelta.errors import GodeltaError
from godelta.store.database import Store
from godelta.store.workspace import Workspace


def show_plan(paths: Sequence[Path], folder: Path | None) -> None:
    """Print jobs, batch scripts and estimated hours of campaign files; nothing is made, nothing is sent."""
    configs = read_all(paths)
    workspace = Workspace.existing(folder)
    with console.status("Loading the workflow engine"):
        from godelta.workflows.estimate import batch_scripts, plan

        store = _store(workspace)
        plans = [plan(config, workspace, store) for config in configs.values()]
    shown = table("campaign", "rounds", "Fireworks", "categories", "evaluations", "CPU hours", "GPU hours")
    for each in plans:
        shown.add_row(
            each.config.name,
            f"<= {each.rounds}",
            f"<= {each.fireworks}",
            ", ".join(f"{category} {count}" for category, count in sorted(each.jobs.items())),
            f"<= {each.evaluations}" + (f" + {each.refinement}" if each.refinement else ""),
            _hours([cost.cpu_hours for cost in each.costs.values()]),
            _hours([cost.gpu_hours for cost in each.costs.values()]),
        )
    console.print(shown)
    for each in plans:
        if each.refinement:
            best, most = each.config.refine.best, each.config.refine.evaluations
            console.print(
                f"After the search, {each.config.name} refines its {best} lowest structures,"
                f" with {most} evaluations each at most: these are in the hours."
            )
    limits: dict[bool, list[str]] = {True: [], False: []}
    for each in plans:
        for role, cost in each.costs.items():
            limits[cost.known].append(f"{role} of {each.config.name}")
    _explain(limits, [each.config.name for each in plans if "search" not in each.costs])
    for category, script in batch_scripts(workspace, configs).items():
        console.rule(f"batch job for {category}", align="left")
        console.print(script, markup=False, soft_wrap=True)


def _explain(limits: dict[bool, list[str]], unknown: list[str]) -> None:
    """Where the hours come from: nobody should take a bound for a forecast."""
    if limits[True]:
        console.print(f"Measured before: {', '.join(limits[True])}.")
    if limits[False]:
        console.print(
            f"Nothing like it was evaluated before, so the wall limit counts: {', '.join(limits[False])}."
        )
    if unknown:
        console.print(f"No search like it ran before, its hours are not counted: {', '.join(unknown)}.")


def _hours(values: list[float]) -> str:
    total = sum(values)
    return f"{total:.1f}" if total < 100 else f"{total:.0f}"


def _store(workspace: Workspace) -> Store | None:
    """The database where there is one that answers: a dry run starts nothing."""
    try:
        return workspace.connect()
    except GodeltaError as error:
        console.print(f"[yellow]No database, so nothing measured:[/] {error.what}")
        return None

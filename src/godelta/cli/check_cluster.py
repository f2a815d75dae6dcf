"""`godelta check --slurm`: the classes of batch jobs, and what their workers find on the compute nodes."""

import contextlib
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from godelta import logs
from godelta.campaign import CampaignConfig
from godelta.campaign_file import read_campaigns
from godelta.cli.check import check_campaign, check_workspace, print_line, print_lines
from godelta.cli.console import console
from godelta.errors import GodeltaError
from godelta.store.checks import carry_out, failed
from godelta.store.database import Store
from godelta.store.workspace import Workspace

if TYPE_CHECKING:
    from godelta.workflows.cluster_check import Asked, Probe
    from godelta.workflows.resource_classes import ResourceClass
    from godelta.workflows.slurm import BatchJob


def check_cluster(folder: Path | None, campaign: Path | None, seconds: float) -> int:
    """Check this machine, SLURM, and what batch jobs of every class find; 0 if all is well, else 1.

    Parameters
    ----------
    seconds
        How long a batch job may wait in the queue.
    """
    from godelta.workflows import slurm

    if not slurm.is_here():
        raise GodeltaError(
            "there is no SLURM on this machine: the command squeue is not found",
            where="godelta check --slurm",
            mend="give the command where you submit jobs; `godelta check` looks at this machine alone",
        )
    config = None if campaign is None else read_campaigns(campaign)[0]
    workspace = Workspace.existing(folder)
    logs.take_over(workspace.logs)
    here = check_workspace(workspace)
    base = Path() if campaign is None else campaign.resolve().parent
    here &= config is None or check_campaign(config, base)
    if not print_line(carry_out("SLURM", lambda: f"partitions {', '.join(slurm.partitions())}")):
        return 1
    fit, unfit = _classes(workspace, config)
    if not here:
        console.print("No batch job is sent while something is wrong on this machine.")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    store = workspace.connect()
    try:
        answered = _ask(workspace, store, fit, _asked(config, base), seconds)
    except KeyboardInterrupt:
        console.print("Stopped; the batch jobs of the check are cancelled.")
        return 130
    finally:
        store.close()
    return 0 if answered and not unfit else 1


def check_from_worker(folder: Path | None, token: str) -> int:
    """Look around within a batch job, for the submitter; 0 if all is well there, else 1."""
    from godelta.workflows.worker_check import check_here

    workspace = Workspace.find(folder)
    with contextlib.suppress(GodeltaError):  # the check itself tells what cannot be written
        workspace.prepare()
        logs.take_over(workspace.logs)
    return 0 if print_lines(check_here(workspace, token)) else 1


def _classes(workspace: Workspace, config: CampaignConfig | None) -> tuple[list["ResourceClass"], int]:
    """The classes that SLURM takes, and how many it does not."""
    from godelta.workflows.cluster_check import check_class, classes

    with console.status("Loading the workflow engine"):
        found = classes(workspace, config)
    fit: list[ResourceClass] = []
    for category, class_ in found.items():
        if isinstance(class_, GodeltaError):
            print_line(failed("class", class_), category)
        elif print_line(carry_out("class", partial(check_class, class_)), category):
            fit.append(class_)
    return fit, len(found) - len(fit)


def _asked(config: CampaignConfig | None, base: Path) -> "Asked":
    """What there is of a campaign on this machine, for batch jobs to compare with."""
    from godelta.foundation import load_foundation
    from godelta.reference.registry import reference_hash
    from godelta.systems.builders import build_problem
    from godelta.workflows.cluster_check import Asked

    if config is None:
        return Asked()
    problem = build_problem(config.system, base)
    numbers = sorted({int(z) for z in (*problem.template.numbers, *problem.numbers)})
    weights = load_foundation(config.foundation).identity
    return Asked(config, tuple(numbers), weights, reference_hash(config.reference))


def _ask(
    workspace: Workspace, store: Store, fit: Sequence["ResourceClass"], asked: "Asked", seconds: float
) -> bool:
    """Send a batch job of every class, and print what each finds; whether all is well."""
    from godelta.workflows.cluster_check import clean, send, sweep, watch

    sweep(workspace)
    probes: list[Probe] = []
    answered: list[Probe] = []
    fine: list[Probe] = []
    well = True
    try:
        for class_ in fit:
            try:
                probes.append(send(workspace, store, class_, asked))
            except GodeltaError as error:
                well = print_line(failed("batch job", error), class_.category)
        teller = _Teller()
        for probe, lines in watch(store, probes, seconds, teller):
            answered.append(probe)
            if print_lines(lines, probe.category):
                fine.append(probe)
            else:
                well = False
                console.print(f"     kept: {probe.folder}", markup=False, soft_wrap=True)
    finally:
        clean(store, probes, [probe for probe in probes if probe not in answered], fine)
    return well


class _Teller:
    """Says which batch jobs wait and why, when that changes."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def __call__(self, probe: "Probe", job: "BatchJob") -> None:
        """Look at a job that is in the queue."""
        reason = job.reason.strip("()")
        state = f"{job.state.lower()}{f' ({reason})' if reason else ''}"
        if self._said.get(probe.token) != state:
            self._said[probe.token] = state
            clock = time.strftime("%H:%M:%S")
            console.print(
                f"[dim]{clock}  {probe.category}: job {job.job_id} {escape(state)}[/]", soft_wrap=True
            )

"""`godelta submit`: campaigns into the queue, batch jobs for what waits in it."""

import logging
import signal
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from rich.markup import escape

from godelta import logs
from godelta.benchmark_file import is_benchmark, read_benchmark
from godelta.campaign import CampaignConfig
from godelta.campaign_file import read_campaigns
from godelta.cli.console import console
from godelta.cli.workspace import open_or_make
from godelta.errors import GodeltaError, InputError
from godelta.store import campaigns
from godelta.store.database import Store, patiently
from godelta.store.programs import refuse_programs
from godelta.store.watch import ServerWatch, check_address
from godelta.store.workspace import Workspace
from godelta.workflows.launchpad import configure_engines, open_launchpad

if TYPE_CHECKING:
    from fireworks import LaunchPad

    from godelta.workflows.launcher import Launched

log = logging.getLogger(__name__)

AT_ONCE = 4  # campaigns that are submitted at the same time: most of it is waiting for the database


@dataclass(frozen=True)
class SubmitOptions:
    """What follows the registration.

    Parameters
    ----------
    launch
        Keep sending batch jobs until no campaign of the database runs any more.
    once
        Look once and leave, as from cron.
    every
        Seconds between two looks.
    """

    launch: bool = False
    once: bool = False
    every: float = 30.0


def submit_campaigns(paths: Sequence[Path], folder: Path | None, options: SubmitOptions) -> int:
    """Put campaigns into the queue, and send batch jobs if asked to; the exit code."""
    if not paths and not options.launch:
        raise InputError(
            "nothing to submit", where="godelta submit", mend="name campaign files, or give --launch, or both"
        )
    configs = read_all(paths)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        workspace = open_or_make(folder)
        with logs.place(job="submit"):
            return _submit(workspace, configs, options)
    except KeyboardInterrupt:
        console.print(
            "Stopped; campaigns and batch jobs go on. [bold]godelta submit --launch[/] sends more of them."
        )
        return 130


def read_all(paths: Sequence[Path]) -> dict[Path, CampaignConfig]:
    """Read campaign files; a benchmark or a study stands for all of its campaigns, each under FILE#NAME.

    Raises
    ------
    InputError
        One of them cannot be used, or two have the same name: nothing has been submitted then.
    """
    configs: dict[Path, CampaignConfig] = {}
    for path in paths:
        if is_benchmark(path):
            every = [one.config for one in read_benchmark(path).campaigns]
        else:
            every = read_campaigns(path)
        single = len(every) == 1
        configs |= {path if single else path.with_name(f"{path.name}#{one.name}"): one for one in every}
    seen: dict[str, Path] = {}
    for path, config in configs.items():
        if config.name in seen:
            raise InputError(
                f"two campaigns are called {config.name!r}",
                where=f"{seen[config.name]} and {path}",
                mend="give each campaign a name of its own",
            )
        seen[config.name] = path
    return configs


def _submit(workspace: Workspace, configs: dict[Path, CampaignConfig], options: SubmitOptions) -> int:
    for config in configs.values():
        refuse_programs(config, workspace)  # as every worker would
    with console.status("Loading the workflow engine"):
        configure_engines(workspace, start=True)
        store = workspace.connect()
        launchpad = open_launchpad(workspace)
    wrong = _start_all(store, launchpad, configs)
    if len(configs) > 20:
        console.print(f"{len(configs) - wrong} campaigns are in the queue.")
    if options.launch:
        wrong += not _launch_alone(workspace, store, launchpad, options)
    elif configs:
        console.print(
            "Workers do the rest: [bold]godelta submit --launch[/] sends them to SLURM,"
            " [bold]godelta worker[/] is one on this machine."
        )
    return 1 if wrong else 0


def _start_all(store: Store, launchpad: "LaunchPad", configs: dict[Path, CampaignConfig]) -> int:
    """Register campaigns and let them run, several at a time; how many could not be."""
    wrong = 0
    calls: dict[Path, Future[bool | InputError]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool, console.status("Submitting") as line:
        try:
            for path, config in configs.items():
                calls[path] = pool.submit(copy_context().run, _start, store, launchpad, path, config)
                if len(calls) == 1:
                    wait(calls.values())  # it imports what the others need
            for number, (path, call) in enumerate(calls.items(), start=1):
                line.update(f"Submitting {number} of {len(configs)}")
                answer = call.result()
                if isinstance(answer, InputError):
                    if len(configs) == 1:
                        raise answer
                    wrong += 1
                    console.print(f"[red]not submitted:[/] {path}: {escape(str(answer))}")
                elif len(configs) <= 20:
                    where = "in the queue" if answer else "finished already"
                    console.print(f"[bold]{configs[path].name}[/] is {where}.")
        finally:
            for call in calls.values():
                call.cancel()
    return wrong


def _start(store: Store, launchpad: "LaunchPad", path: Path, config: CampaignConfig) -> bool | InputError:
    """Whether there is anything left to do for a campaign, or why it cannot be registered."""
    from godelta.workflows.submit import register, start

    try:
        campaign = register(store, config, path.resolve().parent)
        return start(store, launchpad, campaign.campaign_id)
    except InputError as error:
        return error


def _launch_alone(workspace: Workspace, store: Store, launchpad: "LaunchPad", options: SubmitOptions) -> bool:
    """Send batch jobs, unless somebody does; whether SLURM took what was sent last.

    One launcher per workspace: two would send twice what is needed.
    """
    lock = FileLock(workspace.state / "launch.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print("Another `godelta submit --launch` of this workspace sends the batch jobs.")
        return True
    try:
        with ServerWatch(workspace):
            return _launch(workspace, store, launchpad, options)
    finally:
        lock.release()


def _launch(workspace: Workspace, store: Store, launchpad: "LaunchPad", options: SubmitOptions) -> bool:
    uri, _ = workspace.database_uri(start=False)
    steadily = partial(patiently, check=lambda: check_address(workspace, uri))
    said: dict[str, str] = {}
    since = 0.0 if options.once else time.time()
    while True:
        running = steadily(lambda: _tend(store, launchpad))
        if not running:
            console.print("No campaign runs any more. `godelta status` shows how they ended.")
            return True
        try:
            outcome = steadily(lambda: _send(workspace, store, launchpad, since))
            _tell(outcome, said)
        except GodeltaError as error:  # SLURM is away, as clusters are at times: it comes back
            if options.once:
                raise
            _say(said, "slurm", f"[yellow]{escape(str(error))}[/]\n  trying again every {options.every:g} s")
        else:
            said.pop("slurm", None)
            if options.once:
                return not outcome.refused
        time.sleep(options.every)


def _send(workspace: Workspace, store: Store, launchpad: "LaunchPad", since: float) -> "Launched":
    from godelta.workflows.launcher import launch

    return launch(workspace, store, launchpad, since)


def _tend(store: Store, launchpad: "LaunchPad") -> int:
    """Let the planner look at the running campaigns; how many there are."""
    from godelta.workflows.batch import BatchWatch
    from godelta.workflows.planner import advance

    batch_lives = BatchWatch(store)
    running = [c for c in campaigns.list_campaigns(store) if c.state == "running"]
    for campaign in running:
        try:
            advance(store, launchpad, campaign.campaign_id, batch_lives)
        except GodeltaError as error:  # one damaged campaign must not hold up the others
            log.error("%s cannot be planned: %s", campaign.name, error)
    return sum(c.state == "running" for c in campaigns.list_campaigns(store))


def _tell(outcome: "Launched", said: dict[str, str]) -> None:
    """Say what was sent; what stays as it was is said once."""
    clock = time.strftime("%H:%M:%S")
    for category, job_ids in outcome.sent.items():
        console.print(f"{clock}  sent {len(job_ids)} for {category}: {', '.join(job_ids)}", soft_wrap=True)
    for category, error in outcome.refused.items():
        _say(said, category, f"{clock}  [red]no batch job for {category}:[/] {escape(str(error))}")
    for category in set(said) - outcome.refused.keys() - {"slurm"}:
        del said[category]


def _say(said: dict[str, str], what: str, text: str) -> None:
    if said.get(what, "")[8:] != text[8:]:  # but for the clock
        console.print(text, soft_wrap=True)  # its lines are searched for in files
    said[what] = text

"""`godelta run`: a private database, local workers, live progress, results."""

import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from godelta import logs
from godelta.campaign import CampaignConfig
from godelta.campaign_file import read_campaigns
from godelta.cli.console import console
from godelta.cli.workspace import open_or_make
from godelta.errors import GodeltaError
from godelta.store import campaigns
from godelta.store.database import Store, patiently
from godelta.store.progress import Progress, snapshot
from godelta.store.watch import ServerWatch, check_address
from godelta.store.workspace import Workspace
from godelta.workflows.launchpad import configure_engines, open_launchpad
from godelta.workflows.local import LocalWorkers

if TYPE_CHECKING:
    from fireworks import LaunchPad

REFRESH_S = 0.5
TEND_EVERY_S = 2.0

log = logging.getLogger(__name__)


def run_campaign(path: Path, folder: Path | None, *, workers: int | None, plain: bool) -> int:
    """Run a campaign, or those of a study one after the other, to the end or until Ctrl-C; the exit code."""
    try:
        configs = read_campaigns(path)
        # Batch systems and `kill` end it like Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        workspace = open_or_make(folder)
        code = 0
        for number, config in enumerate(configs, start=1):
            if len(configs) > 1:
                console.rule(f"{number} of {len(configs)}: {config.name}")
            with logs.place(campaign=config.name, job="run"), _errors_logged():
                code = max(code, _run(workspace, config, path, workers=workers, plain=plain))
        if len(configs) > 1:
            from godelta.cli.results import print_study

            print_study(workspace.connect(), [config.name for config in configs])
        return code
    except KeyboardInterrupt:
        console.print(
            f"Stopped; nothing is lost. [bold]godelta run {path}[/] goes on where this one left off."
        )
        return 130


def _run(
    workspace: Workspace, config: CampaignConfig, path: Path, *, workers: int | None, plain: bool
) -> int:
    with console.status("Starting the database"):
        configure_engines(workspace, start=True)
        store = workspace.connect()
    with console.status("Loading the workflow engine"):
        from godelta.workflows.submit import register

        document = register(store, config, path.resolve().parent)
        launchpad = open_launchpad(workspace)
    from godelta.cli.results import print_results

    if document.state == "finished" and not campaigns.reopen(store, document.campaign_id):
        console.print(f"[bold]{config.name}[/] is finished already.")
    else:
        with logs.place(campaign_id=document.campaign_id):
            _work(workspace, store, launchpad, document.campaign_id, config, workers=workers, plain=plain)
    return print_results(workspace, store, document.campaign_id)


def _work(
    workspace: Workspace,
    store: Store,
    launchpad: "LaunchPad",
    campaign_id: str,
    config: CampaignConfig,
    *,
    workers: int | None,
    plain: bool,
) -> None:
    from godelta.cli.live import follow

    with alone(workspace, campaign_id) as mine:
        if not mine:
            console.print("Another `godelta run` is at work on this campaign; following it.")
            _say_why(follow(lambda: snapshot(store, campaign_id), lambda _: None, plain=plain))
            return
        work = LocalWork(
            workspace,
            store,
            launchpad,
            campaign_id,
            workers or config.resources.workers,
            config.resources.threads,
        )
        with ServerWatch(workspace):
            try:
                work.start()
                ended = follow(work.look, lambda _: work.tend(), plain=plain)
                _say_why(ended)
                if ended.state == "paused":  # by `godelta pause`: what is under way finishes
                    work.pool.finish()
            finally:
                with console.status("Stopping the workers"):
                    work.stop()


class LocalWork:
    """A campaign that workers of this process are at work on.

    Parameters
    ----------
    workers, threads
        Worker processes, and threads of each.
    first
        Number of the first worker on this machine.
    """

    def __init__(
        self,
        workspace: Workspace,
        store: Store,
        launchpad: "LaunchPad",
        campaign_id: str,
        workers: int,
        threads: int,
        first: int = 0,
    ) -> None:
        self.store = store
        self.launchpad = launchpad
        self.campaign_id = campaign_id
        self.pool = LocalWorkers(workspace, campaign_id, workers, threads, first)
        uri, _ = workspace.database_uri(start=False)
        self._steadily = partial(patiently, check=lambda: check_address(workspace, uri))
        self._tended = time.monotonic()

    def start(self) -> None:
        """Let the campaign run, and start its workers."""
        _prepare(self.store, self.launchpad, self.campaign_id)
        self._tended = time.monotonic()
        self.pool.start()

    def look(self) -> Progress:
        """How far it is."""
        return self._steadily(lambda: snapshot(self.store, self.campaign_id))

    def tend(self) -> None:
        """Replace workers that died, and plan; now and then."""
        now = time.monotonic()
        passed = now - self._tended
        if passed < TEND_EVERY_S:
            return
        self._tended = now
        self.pool.replace_dead()
        worked = passed * self.pool.running
        self._steadily(
            lambda: campaigns.add_time(self.store, self.campaign_id, elapsed_s=passed, worker_s=worked)
        )
        self._steadily(lambda: _advance(self.store, self.launchpad, self.campaign_id))

    def stop(self) -> None:
        """Stop the workers; a campaign that is not at its end is paused."""
        self.pool.stop()
        campaigns.set_state(self.store, self.campaign_id, "running", "paused")


def _say_why(ended: Progress) -> None:
    """Say so where another command ended the campaign."""
    if ended.state == "paused":
        console.print(
            f"{ended.name} was paused from elsewhere; jobs under way finish. "
            f"[bold]godelta resume {ended.name}[/] or the same run goes on.",
            soft_wrap=True,
        )
    elif ended.state == "cancelled":
        console.print(f"{ended.name} was cancelled from elsewhere; what has been evaluated stays.")


def _prepare(store: Store, launchpad: "LaunchPad", campaign_id: str) -> None:
    from godelta.workflows.planner import advance

    campaigns.set_state(store, campaign_id, ("created", "paused", "failed"), "running")
    advance(store, launchpad, campaign_id)


def _advance(store: Store, launchpad: "LaunchPad", campaign_id: str) -> None:
    from godelta.workflows.planner import advance

    advance(store, launchpad, campaign_id)


@contextlib.contextmanager
def _errors_logged() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        log.info("stopped by Ctrl-C or SIGTERM")
        raise
    except GodeltaError as error:
        log.error("%s", error)
        raise
    except Exception as error:
        log.exception("ended by an error: %s", error)
        raise


@contextlib.contextmanager
def alone(workspace: Workspace, campaign_id: str) -> Iterator[bool]:
    """Whether this is the campaign's only `run`; the lock goes with the process."""
    lock = FileLock(workspace.state / f"run-{campaign_id}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()

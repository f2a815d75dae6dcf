"""A long-lived worker around FireWorks' launch_rocket: takes jobs until it is told to stop."""

import contextlib
import ctypes
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pymongo.errors import ConnectionFailure

from godelta.makers.session import Session, use_session
from godelta.store import campaigns
from godelta.store.database import patiently
from godelta.store.watch import ServerWatch, check_address
from godelta.store.workers import WorkerName
from godelta.store.workspace import Workspace
from godelta.workflows import pilots, slurm
from godelta.workflows.launchpad import configure_engines, open_launchpad
from godelta.workflows.planner import advance
from godelta.workflows.round import CAMPAIGN_FIELD, LIGHT

if TYPE_CHECKING:
    from fireworks import FWorker, LaunchPad

POLL_S = 0.2, 2.0  # right after a job, and after a long time without one
PLAN_EVERY_S = 10.0
PLAN_AT_MOST = 20  # campaigns
MAX_FAILURES = 5  # of the queue itself, in a row
MARGIN_S = 60.0
LONGER = 1.2  # than the longest job so far the next one may be
PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)


@dataclass
class StopFlag:
    """Set by SIGINT and SIGTERM; jobs look at it between steps and leave at a clean point."""

    requested: bool = False

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.requested

    def handle(self, signum: int, _frame: FrameType | None) -> None:
        """Signal handler."""
        self.requested = True
        log.info("asked to stop by %s", signal.Signals(signum).name)


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker takes, and when it leaves.

    Parameters
    ----------
    category
        FireWorks categories to take; `light` jobs are always taken. Empty: every job.
    campaign_id
        Take this campaign's jobs only, and leave when it is no longer running.
    idle_seconds
        Leave after so long without a job; None: never.
    parent
        Process id of the process that started the worker: be told to stop when it ends (Linux).
    until
        POSIX time when the batch system ends the worker: no job is taken that would hardly be done by then.
    """

    category: Sequence[str] = ()
    campaign_id: str | None = None
    idle_seconds: float | None = None
    parent: int | None = None
    until: float | None = None


@dataclass
class Allocation:
    """The time that a batch job has left, and whether another job of the queue fits in."""

    until: float | None
    began: float = field(default_factory=time.time)
    longest: float = 0.0

    def fits(self) -> bool:
        """Whether a job as long as the longest so far would be done in time."""
        if self.until is None:
            return True
        margin = min(MARGIN_S, 0.1 * (self.until - self.began))
        return time.time() + LONGER * self.longest + margin < self.until

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        """Look how long a job takes."""
        began = time.time()
        yield
        self.longest = max(self.longest, time.time() - began)


def work(workspace: Workspace, options: WorkerOptions) -> int:
    """Take jobs until told to stop; the number of jobs done."""
    stop = StopFlag()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.handle)
    if options.parent is not None:
        _stop_with(options.parent)
    launched_in = Path.cwd()
    configure_engines(workspace)
    session = Session(workspace, workspace.connect(), should_stop=stop)
    use_session(session)
    session.heartbeat.takes = _taken(options)
    session.heartbeat.campaign_id = options.campaign_id
    session.heartbeat.batch_job = slurm.own_job()
    folder = workspace.state / "workers" / f"{session.heartbeat.name.host}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    with ServerWatch(workspace), session.heartbeat, contextlib.chdir(folder):
        pilots.note_at_work(workspace, launched_in)
        done = sum(1 for _ in _jobs(session, options, stop))
    with contextlib.suppress(OSError):
        folder.rmdir()
    if pilots.is_pilots(workspace, launched_in):
        pilots.remove_folder(launched_in)
    return done


def _jobs(session: Session, options: WorkerOptions, stop: StopFlag) -> Iterator[None]:
    """Run one job after the other; yields after each."""
    launchpad = open_launchpad(session.workspace)
    uri, _ = session.workspace.database_uri(start=False)
    idle_since = planned = time.monotonic()
    failures = 0
    allocation = Allocation(options.until)
    while not stop.requested:
        if not allocation.fits():
            log.info("too little time is left for another job")
            return
        try:
            if options.campaign_id and _ended(session, options.campaign_id):
                return
            with allocation.job():
                took = _take_job(session, launchpad, options)
            if took:
                yield
                idle_since, failures = time.monotonic(), 0
                continue
            if time.monotonic() - planned > PLAN_EVERY_S:
                planned = time.monotonic()
                _plan(session, launchpad, options)
        except ConnectionFailure as error:
            # What this worker had taken may read RUNNING for ever: under a new name it is nobody's.
            log.warning("the database was away, starting over: %s", error)
            patiently(session.heartbeat.give_up_all, check=lambda: check_address(session.workspace, uri))
            continue
        except (TypeError, ValueError, KeyError) as error:
            # FireWorks' words for a queue that was dropped under a job; the planner makes it anew.
            failures += 1
            if failures > MAX_FAILURES:
                raise
            log.warning("the queue has lost a job, starting over: %s", error, exc_info=True)
            patiently(session.heartbeat.give_up_all)
        idle = time.monotonic() - idle_since
        if options.idle_seconds is not None and idle > options.idle_seconds:
            return
        time.sleep(min(max(idle / 10.0, POLL_S[0]), POLL_S[1]))


def _take_job(session: Session, launchpad: "LaunchPad", options: WorkerOptions) -> bool:
    """Take a job and do it; whether there was one."""
    from fireworks.core.rocket_launcher import launch_rocket

    fworker = _fireworker(options, session.heartbeat.name)
    return bool(launchpad.run_exists(fworker) and launch_rocket(launchpad, fworker, strm_lvl="ERROR"))


def _plan(session: Session, launchpad: "LaunchPad", options: WorkerOptions) -> None:
    """Let the planner look at the running campaigns: an idle worker may wait for one that is stuck."""
    if options.campaign_id:
        advance(session.store, launchpad, options.campaign_id)
        return
    running = [c for c in campaigns.list_campaigns(session.store) if c.state == "running"]
    # Some of them, by chance: hundreds of idle workers that look at a thousand would keep the server busy.
    for campaign in random.sample(running, min(PLAN_AT_MOST, len(running))):
        advance(session.store, launchpad, campaign.campaign_id)


def _ended(session: Session, campaign_id: str) -> bool:
    return campaigns.get_campaign(session.store, campaign_id).state != "running"


def _taken(options: WorkerOptions) -> list[str]:
    """The categories of jobs that are taken; [] means every one."""
    return list(dict.fromkeys([*options.category, LIGHT])) if options.category else []


def _fireworker(options: WorkerOptions, name: WorkerName) -> "FWorker":
    from fireworks import FWorker

    return FWorker(
        name=str(name),
        category=_taken(options) or "",
        query={f"spec.{CAMPAIGN_FIELD}": options.campaign_id} if options.campaign_id else {},
    )


def _stop_with(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent ends, and leave at once if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit(0)

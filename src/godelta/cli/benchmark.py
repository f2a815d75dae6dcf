"""`godelta benchmark`: many campaigns one after the other, or several at once; what is finished stays."""

import contextlib
import signal
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from godelta import logs
from godelta.benchmark_file import Benchmark, BenchmarkCampaign, read_benchmark
from godelta.cli.console import console
from godelta.cli.workspace import open_existing, open_or_make
from godelta.store import campaigns, structures
from godelta.store.database import Store
from godelta.store.workspace import Workspace

if TYPE_CHECKING:
    from fireworks import LaunchPad
    from rich.status import Status

    from godelta.cli.run import LocalWork

LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class BenchmarkOptions:
    """How to run and show a benchmark: `workers` campaigns at a time, each with one worker process."""

    workers: int = 1
    results_only: bool = False
    output: str = "table"


def run_benchmark(path: Path, folder: Path | None, options: BenchmarkOptions) -> int:
    """Run what is not finished of a benchmark, and report on all of it; the exit code."""
    from godelta.cli.benchmark_report import report

    benchmark = read_benchmark(path)
    if options.results_only:
        workspace = open_existing(folder)
        return report(workspace, workspace.connect(start=True), benchmark, options.output, path)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        workspace = open_or_make(folder)
        with logs.place(job="benchmark"):
            store = _run(workspace, benchmark, path, options)
    except KeyboardInterrupt:
        console.print(
            f"Stopped; nothing is lost. [bold]godelta benchmark {path}[/] goes on where this one left off,"
            " with --results-only it tells what is there."
        )
        return 130
    return report(workspace, store, benchmark, options.output, path)


def _run(workspace: Workspace, benchmark: Benchmark, path: Path, options: BenchmarkOptions) -> Store:
    from godelta.workflows.launchpad import configure_engines, open_launchpad

    quiet = options.output == "json"
    with console.status("Starting the database"):
        configure_engines(workspace, start=True)
        store = workspace.connect()
        launchpad = open_launchpad(workspace)
    todo = _register(store, benchmark, path)
    total = len(benchmark.campaigns)
    if not quiet:
        console.print(
            f"[bold]{benchmark.name}[/]: {len(benchmark.cells)} cells, {total} campaigns,"
            f" {total - len(todo)} of them done."
        )
    if todo:
        _Bench(workspace, store, launchpad, benchmark, todo, quiet=quiet).run(options.workers)
    return store


def _register(store: Store, benchmark: Benchmark, path: Path) -> "deque[tuple[BenchmarkCampaign, str]]":
    """Make every campaign known, so that no error comes late; those that are not done, with their ids."""
    from godelta.workflows.submit import register

    todo: deque[tuple[BenchmarkCampaign, str]] = deque()
    with console.status("Registering") as line:
        for number, one in enumerate(benchmark.campaigns, start=1):
            line.update(f"Registering {number} of {len(benchmark.campaigns)}")
            document = register(store, one.config, path.resolve().parent)
            if _reached(store, benchmark, document.campaign_id, document.reference_hash):
                continue
            if document.state != "finished" or campaigns.reopen(store, document.campaign_id):
                todo.append((one, document.campaign_id))
    return todo


def _reached(store: Store, benchmark: Benchmark, campaign_id: str, reference_hash: str) -> bool:
    """Whether a campaign has no more to do, since it has found what it was looking for."""
    if benchmark.target is None or not benchmark.stop_at_target:
        return False
    best = structures.best(store, campaign_id, reference_hash, 1)
    return bool(best) and best[0]["energy"] <= benchmark.target + benchmark.tolerance


@dataclass
class _AtWork:
    """One campaign that is being run."""

    campaign: BenchmarkCampaign
    campaign_id: str
    reference_hash: str
    work: "LocalWork"
    held: contextlib.ExitStack


@dataclass
class _Bench:
    """The campaigns that are left, and those at work."""

    workspace: Workspace
    store: Store
    launchpad: "LaunchPad"
    benchmark: Benchmark
    todo: "deque[tuple[BenchmarkCampaign, str]]"
    quiet: bool
    at_work: dict[int, _AtWork] = field(default_factory=dict)
    successes: int = 0

    def run(self, workers: int) -> None:
        """Run all that is left, so many at a time."""
        from godelta.store.watch import ServerWatch

        with ServerWatch(self.workspace), console.status("") as line, self._stopping():
            while self.todo or self.at_work:
                for slot in range(workers):
                    if slot not in self.at_work and self.todo:
                        self._begin(slot)
                self._show(line)
                time.sleep(LOOK_EVERY_S)
                for slot in list(self.at_work):
                    self._look(slot)

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
        finally:
            for slot in list(self.at_work):
                self._end(slot)

    def _begin(self, slot: int) -> None:
        from godelta.cli.run import LocalWork, alone

        one, campaign_id = self.todo.popleft()
        held = contextlib.ExitStack()
        if not held.enter_context(alone(self.workspace, campaign_id)):
            self._say(one, "another process is at work on it")
            return
        document = campaigns.get_campaign(self.store, campaign_id)
        reached = _reached(self.store, self.benchmark, campaign_id, document.reference_hash)
        if document.state == "finished" or reached:  # by that other process
            held.close()
            return
        threads = one.config.resources.threads
        work = LocalWork(self.workspace, self.store, self.launchpad, campaign_id, 1, threads, first=slot)
        self.at_work[slot] = _AtWork(one, campaign_id, document.reference_hash, work, held)
        with logs.place(campaign=one.config.name, campaign_id=campaign_id):
            work.start()

    def _look(self, slot: int) -> None:
        one = self.at_work[slot]
        progress = one.work.look()
        if progress.state == "running":
            if not _reached(self.store, self.benchmark, one.campaign_id, one.reference_hash):
                with logs.place(campaign=progress.name, campaign_id=one.campaign_id):
                    one.work.tend()
                return
            campaigns.set_state(self.store, one.campaign_id, "running", "paused")
            return
        if progress.state == "paused" and one.work.pool.running:
            return  # what is under way finishes
        self._end(slot)
        reached = _reached(self.store, self.benchmark, one.campaign_id, one.reference_hash)
        self.successes += reached
        end = "reached the target" if reached else progress.state
        best = "nothing found" if progress.best_energy is None else f"best {progress.best_energy:.4f} eV"
        why = f": {progress.reason}" if progress.state == "failed" else ""
        self._say(one.campaign, f"{end}{why}, {progress.ok + progress.failed} evaluations, {best}")

    def _end(self, slot: int) -> None:
        one = self.at_work.pop(slot)
        try:
            one.work.stop()
        finally:
            one.held.close()

    def _say(self, one: BenchmarkCampaign, text: str) -> None:
        if not self.quiet:
            left = len(self.todo) + len(self.at_work)
            done = len(self.benchmark.campaigns) - left
            console.print(
                f"{done} of {len(self.benchmark.campaigns)}  {one.config.name}  {text}",
                soft_wrap=True,
                markup=False,
            )

    def _show(self, line: "Status") -> None:
        names = ", ".join(one.campaign.config.name for one in self.at_work.values())
        left = len(self.todo) + len(self.at_work)
        found = f", {self.successes} reached the target now" if self.benchmark.target is not None else ""
        line.update(f"{left} campaigns left{found}; at work: {names}   [dim]Ctrl-C stops safely[/]")

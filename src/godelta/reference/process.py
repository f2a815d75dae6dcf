"""The processes of one evaluation, watched from the worker: wall time, memory, the wish to stop."""

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from godelta.redaction import is_secret
from godelta.reference.checks import Finding, Reason
from godelta.reference.child import RANK_VARIABLES
from godelta.reference.guard import GRACE, LOG
from godelta.reference.settings import Limits

POLL = 0.2  # s between looks at the memory and at should_stop
RESCAN = 5  # looks between searches for new descendants, which read all of /proc

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Interrupted(Exception):  # noqa: N818  nothing is wrong: the caller asked for it
    """`should_stop` said so; the evaluation's processes are gone and its scratch is kept."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an evaluation took: wall and processor time in s, peak resident memory in MB."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """How the processes ended: what went wrong with them, if anything, and the cost."""

    finding: Finding | None
    cost: Cost


def run_guarded(
    scratch: Path, limits: Limits, should_stop: Callable[[], bool] | None, deadline: float | None
) -> End:
    """Run the job in `scratch` under a guard, and return when none of its processes is left.

    Raises
    ------
    Interrupted
        `should_stop` returned True.
    """
    started = time.monotonic()
    # The system's clock may be set while the engine runs.
    left = math.inf if deadline is None else deadline - time.time()
    guard = _start(scratch, limits)
    tree = _Tree(guard.pid)
    finding: Finding | None = None
    try:
        while finding is None and not _has_ended(guard, POLL):
            if should_stop is not None and should_stop():
                raise Interrupted
            if time.monotonic() - started > limits.wall_seconds:
                finding = Finding("wall_limit", f"longer than {limits.wall_seconds:g} s")
            elif time.monotonic() - started > left:
                finding = Finding("interrupted", "the time of the surrounding job was over")
            elif (rss := tree.rss_mb()) > limits.memory_mb:
                finding = Finding("memory_limit", f"{rss:.0f} MB (limit {limits.memory_mb:g} MB)")
                tree.kill()
    finally:
        report = _finish(guard, tree)
    cost = Cost(
        wall_s=time.monotonic() - started,
        cpu_s=report.get("cpu_s", 0.0),
        peak_rss_mb=max(tree.peak_mb, report.get("peak_rss_mb", 0.0)),
    )
    return End(finding or _crash(report), cost)


def _start(scratch: Path, limits: Limits) -> "subprocess.Popen[bytes]":
    # An engine and what it starts have no business with the database.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in RANK_VARIABLES and not is_secret(value)
    }
    environment |= dict.fromkeys(THREAD_VARIABLES, str(limits.threads))
    if "PYTHONPATH" in environment:  # relative entries would mean other directories in scratch
        entries = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in entries)
    with (scratch / LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "godelta.reference.guard", str(scratch), *limits.command_prefix],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env=environment,
            cwd=scratch,
        )


def _has_ended(guard: "subprocess.Popen[bytes]", timeout: float) -> bool:
    """Wait for the guard's report, or for the end of the guard without one."""
    assert guard.stdout is not None
    readable, _, _ = select.select([guard.stdout], [], [], timeout)
    return bool(readable)


def _finish(guard: "subprocess.Popen[bytes]", tree: "_Tree") -> dict[str, Any]:
    """End the evaluation if it still runs; the guard's report, empty if it was killed itself."""
    try:
        # Closing the guard's standard input makes it end its descendants, then itself.
        output, _ = guard.communicate(timeout=GRACE + 10.0)
    except subprocess.TimeoutExpired:
        output = b""
    if guard.poll() != 0 or not output:
        guard.kill()
        tree.sweep()
        guard.communicate()
        return {}
    report: dict[str, Any] = json.loads(output)
    return report


def _crash(report: dict[str, Any]) -> Finding | None:
    if not report:
        return Finding("killed", "the process that guards the evaluation was killed or did not start")
    code = report["returncode"]
    if code == 0:
        return None
    # A shell, srun or mpirun reports the signal n of its child as the exit code 128 + n.
    number = -code if code < 0 else code - 128
    if number not in {int(known) for known in signal.Signals}:
        return Finding("crashed", f"ended with exit code {code}")
    name = signal.Signals(number).name
    # Nothing of ours ends an evaluation within its limits. The queue system sends SIGTERM; a person, or a
    # machine short of memory, sends SIGKILL, and that may be over at the next attempt.
    reasons: dict[int, Reason] = {signal.SIGTERM: "interrupted", signal.SIGKILL: "killed"}
    return Finding(reasons.get(number, "crashed"), f"ended by {name}")


class _Tree:
    """The resident memory of a guard's descendants, now and at its peak."""

    def __init__(self, guard: int) -> None:
        self.peak_mb = 0.0
        self._guard = guard
        self._looks = 0
        self._processes: list[psutil.Process] = []

    def rss_mb(self) -> float:
        if self._looks % RESCAN == 0:
            self._processes = self._descendants()
        self._looks += 1
        total = 0.0
        for process in self._processes:
            try:
                total += process.memory_info().rss / 1024**2
            except psutil.NoSuchProcess:
                continue
        self.peak_mb = max(self.peak_mb, total)
        return total

    def kill(self) -> None:
        _kill({*self._descendants(), *self._processes})

    def sweep(self) -> None:
        """After the guard's own violent end: whatever was seen, or is left of its session."""
        end = time.monotonic() + GRACE
        while (left := self._left()) and time.monotonic() < end:
            _kill(left)
            psutil.wait_procs(left, timeout=0.2)

    def _left(self) -> set[psutil.Process]:
        session = {process for process in psutil.process_iter() if _session(process.pid) == self._guard}
        return {process for process in session.union(self._processes) if _is_alive(process)}

    def _descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self._guard).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _kill(processes: set[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None

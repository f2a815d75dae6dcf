"""Worker processes of a campaign on this machine: started, watched, replaced, stopped."""

import logging
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from godelta.errors import GodeltaError
from godelta.store.workspace import Workspace

MAX_REPLACEMENTS = 5
GRACE_S = 20.0
# What other packages print and how a crash ended; what godelta has to say is in the log proper.
OUTPUT_BYTES = 1_000_000

log = logging.getLogger(__name__)


@dataclass
class LocalWorkers:
    """The workers of one campaign on this machine.

    Each worker is a session of its own, so that a Ctrl-C in the terminal reaches them through `stop`
    only, once and in order; if this process is killed they stop by themselves.
    """

    workspace: Workspace
    campaign_id: str
    count: int
    threads: int
    first: int = 0  # number of the first, where other campaigns have workers on this machine too
    replaced: int = 0
    _processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(self) -> None:
        """Start the workers."""
        self._processes = [self._spawn(number) for number in range(self.count)]
        log.info("workers started: %d, threads of each: %d", self.count, self.threads)

    def replace_dead(self) -> int:
        """Replace workers that ended before their campaign, killed or asked to; how many there were.

        Raises
        ------
        GodeltaError
            Workers keep dying.
        """
        for number in range(self.count):
            self._trim(number)
        dead = [number for number, process in enumerate(self._processes) if process.poll() is not None]
        for number in dead:
            self.replaced += 1
            code = self._processes[number].returncode
            log.warning("worker %d ended too early, with code %s; another takes its place", number, code)
            if self.replaced > MAX_REPLACEMENTS:
                raise GodeltaError(
                    f"the workers keep dying:\n{self._tail(number)}",
                    where=str(self._log(number)),
                    mend="`godelta check` may name the reason",
                )
            self._processes[number] = self._spawn(number)
        return len(dead)

    def finish(self) -> None:
        """Wait until every worker has left by itself, as they do when their campaign no longer runs."""
        while self.running:
            time.sleep(0.2)

    @property
    def running(self) -> int:
        """Workers alive."""
        return sum(process.poll() is None for process in self._processes)

    def stop(self) -> None:
        """Ask every worker to stop, wait for it, and end what does not listen."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process in self._processes:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("worker with pid %d did not listen and was killed", process.pid)
                process.kill()
                process.wait()
        log.info("workers stopped")

    def _spawn(self, number: int) -> "subprocess.Popen[bytes]":
        command = [
            sys.executable, "-m", "godelta.cli.main", "worker", "--campaign", self.campaign_id,
            "--workspace", str(self.workspace.folder), "--parent", str(os.getpid()),
        ]  # fmt: skip
        threads = str(self.threads)
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "NUMBA_NUM_THREADS": threads,
            "PYTHONUNBUFFERED": "1",
            "TQDM_DISABLE": "1",
        }
        with self._open_log(number) as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def _log(self, number: int) -> Path:
        return self.workspace.logs / f"worker-{self.first + number}.log"

    def _open_log(self, number: int) -> IO[bytes]:
        self._trim(number)
        return self._log(number).open("ab")

    def _trim(self, number: int) -> None:
        """Set a file that has grown too long aside, and begin anew under the hands of who writes to it."""
        path = self._log(number)
        if path.exists() and path.stat().st_size > OUTPUT_BYTES:
            shutil.copyfile(path, path.with_suffix(".log.old"))
            os.truncate(path, 0)

    def _tail(self, number: int, lines: int = 15) -> str:
        text = self._log(number).read_text(errors="replace").splitlines()
        return "\n".join(text[-lines:])

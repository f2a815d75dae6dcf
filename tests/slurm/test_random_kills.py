"""Random kills over one campaign: of workers, batch jobs, engines, launcher, database server, controller.

`godelta restart --yes` runs now and then, as from cron. GODELTA_KILLS says how many kills there are.
"""

import os
import signal
import time

import numpy as np
import psutil
import pytest
from kit import Scene, quietly

KILLS = int(os.environ.get("GODELTA_KILLS", "10"))
LIMIT_S = 300.0 + 40.0 * KILLS
PAUSE_S = 0.5, 3.0  # between two kills
CRON_S = 30.0


class Chaos:
    """Kills one thing after the other, and counts those that may have cost a computation."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        self.done: list[str] = []
        self.lost = 0

    def strike(self) -> None:
        """One kill, where there is something to kill."""
        victims = [self.worker, self.batch_job, self.engine, self.launcher, self.mongod, self.controller]
        chances = [0.25, 0.25, 0.15, 0.1, 0.15, 0.1]
        victim = victims[int(self.rng.choice(len(victims), p=chances))]
        if victim():
            self.done.append(victim.__name__)

    def worker(self) -> bool:
        """kill -9 of a worker."""
        return self._kill(self.scene.workers())

    def batch_job(self) -> bool:
        """Scancel of a job that runs."""
        running = [job for job, state in self.scene.cluster.squeue().items() if state == "RUNNING"]
        if not running:
            return False
        self.scene.cluster.cancel(int(self.rng.choice(running)))
        self.lost += 1
        return True

    def engine(self) -> bool:
        """kill -9 of an engine alone: its worker lives."""
        return self._kill(self.scene.engines())

    def launcher(self) -> bool:
        """kill -9 of the command that sends batch jobs."""
        self.scene.kill_launchers()
        return True

    def mongod(self) -> bool:
        """kill -9 of the database server; somebody starts it again."""
        server = self.scene.server
        assert server is not None
        pid = server.status().pid
        if pid is None:
            return False
        quietly(psutil.Process(pid).kill)
        time.sleep(float(self.rng.uniform(0.0, 5.0)))
        server.start()
        return True

    def controller(self) -> bool:
        """kill -9 of slurmctld: no command of SLURM answers for a moment."""
        self.scene.cluster.stop_controller(signal.SIGKILL)
        time.sleep(float(self.rng.uniform(0.0, 5.0)))
        self.scene.cluster.start_controller()
        return True

    def administrator(self) -> None:
        """A node where a job started twice, since the controller had forgotten it, waits to be resumed."""
        self.scene.cluster.mend()

    def _kill(self, processes: list[psutil.Process]) -> bool:
        if not processes:
            return False
        quietly(processes[int(self.rng.integers(len(processes)))].kill)
        self.lost += 1
        return True


@pytest.mark.slow
def test_killed_again_and_again(make_scene):
    budget = {"chains": 2, "rounds": 5 * KILLS, "evaluations": 5 * KILLS}
    system = {"formula": "Cu5Ag3"}  # with more minima than that
    scene = make_scene(own_server=True, budget=budget, system=system)
    chaos = Chaos(scene, np.random.default_rng(KILLS))
    end, cron = time.monotonic() + LIMIT_S, time.monotonic() + CRON_S
    restarting = None
    while scene.state != "finished":
        assert time.monotonic() < end, f"{chaos.done}\n{scene.tell()}"
        scene.launchers = [launcher for launcher in scene.launchers if launcher.poll() is None]
        if not scene.launchers:
            scene.launch()
        chaos.administrator()
        time.sleep(float(chaos.rng.uniform(*PAUSE_S)))
        if len(chaos.done) < KILLS and scene.starts():
            chaos.strike()
            scene.look()
        if time.monotonic() > cron and (restarting is None or restarting.poll() is not None):
            restarting = scene.begin("restart", "--yes", "-w", scene.workspace.folder)
            cron = time.monotonic() + CRON_S
    if restarting is not None:
        restarting.communicate(timeout=120)
    assert len(chaos.done) == KILLS
    scene.finish()
    scene.check(chaos.lost)

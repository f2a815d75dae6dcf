"""What can go wrong on a cluster: each function starts the campaign, does it, and says what it may cost."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psutil
from kit import CATEGORIES, NAME, Scene, Worker, wait_until

from godelta.store.workers import SILENT_AFTER

OUTAGE_S = 60.0


@dataclass(frozen=True)
class Fault:
    """A row of the matrix.

    Parameters
    ----------
    happen
        Starts the campaign, does it, and returns how many computations may have been lost.
    engine
        How the reference misbehaves: arguments of CountedEMT, limits.
    failed
        Failed evaluations that may be left, by reason.
    restart
        Options of `godelta restart` afterwards.
    """

    happen: Callable[[Scene], int]
    engine: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    restart: tuple[str, ...] = ()


def cancelled(job: str) -> Callable[[Scene], int]:
    """scancel of the batch job whose worker is at a job of this kind."""

    def happen(scene: Scene) -> int:
        worker = _caught(scene, job)
        scene.cluster.cancel(worker.job)
        return _gone(scene, worker)

    return happen


def cancelled_round(scene: Scene) -> int:
    """scancel of everything at once."""
    worker = _caught(scene, "evaluate")
    scene.cluster.drain()
    return _gone(scene, worker)


def time_limit(scene: Scene) -> int:
    """SLURM warns by SIGINT before the time is over: the worker gives back what it is at, and leaves."""
    scene.launch()
    worker = scene.computing()
    scene.stop_launchers()
    scene.cluster.end_time(worker.job, 60)
    _gone(scene, worker)
    scene.cluster.wait_for(worker.job, "COMPLETED")
    return 1


def node_down(scene: Scene) -> int:
    scene.launch()
    worker = scene.computing()
    scene.stop_launchers()
    scene.cluster.node_down()
    scene.cluster.wait_for(worker.job, "NODE_FAIL")
    _gone(scene, worker)
    scene.cluster.node_up()
    return 1


def power_cut(scene: Scene) -> int:
    """The node is gone without a word; SLURM takes its time to believe it."""
    scene.launch()
    worker = scene.computing()
    scene.stop_launchers()
    scene.cluster.kill_slurmd()
    _gone(scene, worker)
    scene.restart()
    scene.cluster.wait_for(worker.job, "NODE_FAIL", seconds=120)
    scene.cluster.start_slurmd()
    return 1


def killed_before_storing(scene: Scene) -> int:
    worker = _caught(scene, "evaluate")
    worker.signal(signal.SIGKILL)
    return _gone(scene, worker)


def killed_after_storing(scene: Scene) -> int:
    """kill -9 of a worker that has stored every evaluation, and not yet told the queue."""

    def all_stored() -> bool:
        selected = sum(len(round_.selection) for round_ in scene.rounds())
        return 0 < selected == scene.store.evaluations.count_documents({"state": "ok"})

    scene.launch()
    worker = scene.catch("evaluate", all_stored)
    scene.stop_launchers()
    worker.signal(signal.SIGKILL)
    _gone(scene, worker)
    return 0


def killed_while_retraining(scene: Scene) -> int:
    worker = _caught(scene, "retrain")
    worker.signal(signal.SIGKILL)
    _gone(scene, worker)
    return 0


def server_killed(scene: Scene) -> int:
    """kill -9 of mongod, which is back some seconds later."""
    scene.launch()
    scene.computing()
    assert scene.server is not None
    pid = scene.server.status().pid
    assert pid is not None
    psutil.Process(pid).kill()
    time.sleep(5.0)
    scene.server.start()
    return 0


def server_away(scene: Scene) -> int:
    """A minute without mongod."""
    scene.launch()
    scene.computing()
    assert scene.server is not None
    scene.server.stop()
    time.sleep(OUTAGE_S)
    scene.server.start()
    return 0


def launcher_killed(scene: Scene) -> int:
    scene.launch()
    wait_until(scene.cluster.squeue, tell=scene.tell)
    scene.kill_launchers()
    return 0


def silent(scene: Scene) -> int:
    """A worker that lives and gives no sign of life: nobody may take its job from it."""
    scene.launch()
    worker = scene.computing()
    worker.signal(signal.SIGSTOP)
    long_ago = scene.store.now() - SILENT_AFTER - timedelta(minutes=1)
    scene.set_last_sign(worker, long_ago)
    told = scene.restart()
    assert "left alone" in told, told
    scene.launch()  # a second one: it asks as well
    time.sleep(5.0)
    worker.signal(signal.SIGCONT)
    return 0


def disk_full(scene: Scene) -> int:
    """No byte more fits where workers write."""
    scene.launch()
    scene.computing()
    scene.disk.fill()
    wait_until(lambda: "cannot be written" in scene.output.read_text(), 120.0, tell=scene.tell)
    time.sleep(5.0)
    scene.stop_launchers()
    assert scene.output.read_text().count("cannot be written") <= len(CATEGORIES)
    assert scene.state == "running"
    scene.disk.free()
    return 1


def bad_reference(scene: Scene) -> int:
    """The first evaluations go wrong, each in its way; the campaign goes on without them."""
    times = int(scene.campaign["reference"]["arguments"]["times"])
    scene.launch()
    query = {"attempts.outcome": "failed"}
    wait_until(lambda: scene.store.evaluations.count_documents(query) >= times, 120.0, tell=scene.tell)
    return times


def restarted_twice_at_once(scene: Scene) -> int:
    worker = _caught(scene, "evaluate")
    scene.cluster.cancel(worker.job)
    lost = _gone(scene, worker)
    both = [scene.begin("restart", NAME, "--yes", "-w", scene.workspace.folder) for _ in range(2)]
    told = [process.communicate(timeout=120)[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    again = scene.restart()  # not waiting for anything, though no batch job is there
    assert "Nothing is wrong" in again, again
    return lost


def two_submitters(scene: Scene) -> int:
    scene.launch()
    scene.launch()
    scene.computing()
    return 0


def controller_away(scene: Scene) -> int:
    """No command of SLURM answers for a while."""
    scene.launch()
    scene.computing()
    scene.cluster.stop_controller()
    time.sleep(20.0)
    scene.cluster.start_controller()
    return 0


def _caught(scene: Scene, job: str) -> Worker:
    """Start the campaign; hold a worker at a job of this kind, with nobody left to send another."""
    scene.launch()
    if job == "evaluate":
        worker = scene.computing()
        worker.signal(signal.SIGSTOP)
    else:
        worker = scene.catch(job)
    scene.stop_launchers()
    return worker


def _gone(scene: Scene, worker: Worker) -> int:
    wait_until(lambda: not psutil.pid_exists(worker.pid), 60.0, tell=scene.tell)
    return 1


def _bad(fault: str, reason: str, **limits: float) -> Fault:
    engine = {"fault": fault, "times": 2, "limits": limits}
    return Fault(bad_reference, engine, failed={reason: 2}, restart=("--retry", reason))


SLOW_ONCE = {"fault": "slow", "times": 1}
REPRESENTATIVE = {
    "scancel of evaluate": Fault(cancelled("evaluate")),
    "time limit": Fault(time_limit, SLOW_ONCE),
    "node down": Fault(node_down),
    "kill -9 after storing": Fault(killed_after_storing),
    "kill -9 of mongod": Fault(server_killed),
    "kill -9 of the launcher": Fault(launcher_killed),
    "silent worker": Fault(silent, SLOW_ONCE),
    "full disk": Fault(disk_full),
}
OTHERS = {
    "scancel of search": Fault(cancelled("search")),
    "scancel of retrain": Fault(cancelled("retrain")),
    "scancel of a round": Fault(cancelled_round),
    "power cut": Fault(power_cut),
    "kill -9 before storing": Fault(killed_before_storing),
    "kill -9 while retraining": Fault(killed_while_retraining),
    "a minute without mongod": Fault(server_away),
    "controller away": Fault(controller_away),
    "restarted twice at once": Fault(restarted_twice_at_once),
    "two submitters": Fault(two_submitters),
    "segmentation fault": _bad("segfault", "crashed"),
    "hanging reference": _bad("hang", "wall_limit", wall_seconds=4.0),
    "memory": _bad("memory", "memory_limit", memory_mb=700.0),
    "NaN": _bad("nan", "invalid_result"),
    "garbage": _bad("garbage", "force_limit"),
    "exception": _bad("raise", "engine_error"),
}

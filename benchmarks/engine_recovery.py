"""How long until the next evaluation is done after kill -9 of `run`, a worker, mongod, the engine's process.

Usage: python benchmarks/engine_recovery.py [--kills 6]

A campaign with one chain and one worker, whose evaluations take a second: EMT that sleeps. An evaluation is
under way when something is killed; beside it, the same wait where nothing is killed. `run` is started again
at once by this script; everything else mends itself. Wall time. Numbers go to results/engine_recovery.json.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from engine_ledger import config
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from record import save

from godelta.errors import GodeltaError
from godelta.store.mongod import PrivateMongod
from godelta.store.workspace import Workspace

SLEEP_S = 0.7
SLOW = f"""
import time
from ase.calculators.emt import EMT

class SlowEMT(EMT):
    def calculate(self, *args, **kwargs):
        time.sleep({SLEEP_S})
        super().calculate(*args, **kwargs)
"""
VICTIMS = ("nobody", "engine", "worker", "mongod", "run")
LIMIT_S = 120.0


@dataclass
class Scene:
    """A workspace, the command that works in it, and what the database says."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    _client: MongoClient[dict[str, Any]] | None = None
    command: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Start the command, again or for the first time."""
        with (self.folder / "run.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def children(self, word: str) -> list[psutil.Process]:
        """Living processes below the command with a word in their command lines."""
        assert self.process is not None
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if word in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                        found.append(child)
        return found

    def victim(self, name: str) -> psutil.Process | None:
        """The process to kill; None where there is none at the moment."""
        assert self.process is not None
        if name == "run":
            return psutil.Process(self.process.pid)
        if name == "mongod":
            pid = PrivateMongod(self.folder).status().pid
            return psutil.Process(pid) if pid else None
        if name == "worker":
            workers = self.children("worker")
            return workers[0] if workers else None
        for guard in self.children("godelta.reference.guard"):
            with contextlib.suppress(psutil.NoSuchProcess):
                return next(iter(guard.children()), None)
        return None

    def done(self) -> tuple[int, bool]:
        """How many evaluations are done, and whether one is under way; raises where nobody answers."""
        if self._client is None:
            uri, _ = Workspace(self.folder).database_uri(start=False)
            self._client = MongoClient(uri, serverSelectionTimeoutMS=200, retryReads=False)
        evaluations = self._client["godelta"]["evaluations"]
        count = evaluations.count_documents({"state": "ok"})
        busy = evaluations.find_one({"state": "pending", "lease": {"$ne": None}}, {"_id": 1})
        return count, busy is not None

    def wait_for(self, count: int) -> tuple[int, bool]:
        """Wait until so many are done; looks 20 times a second."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(PyMongoError, GodeltaError):
                found = self.done()
                if found[0] >= count:
                    return found
            time.sleep(0.05)
        raise SystemExit(
            f"nothing happened for {LIMIT_S} s:\n{(self.folder / 'run.log').read_text()[-2000:]}"
        )

    def end(self) -> None:
        """Leave nothing behind."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
        PrivateMongod(self.folder).stop()


def begin(folder: Path, kills: int) -> Scene:
    """A campaign that is long enough, at work."""
    (folder / "slow_emt.py").write_text(SLOW)
    settings = config(rounds=40 * kills, evaluations=3, evaluations_per_job=1).model_dump(mode="json")
    path = folder / "bench.yaml"
    path.write_text(json.dumps(settings | {"reference": {"engine": "ase", "calculator": "slow_emt.SlowEMT"}}))
    command = [sys.executable, "-m", "godelta.cli.main", "run", str(path), "--plain", "-w", str(folder)]
    scene = Scene(folder, command=command)
    scene.begin()
    return scene


def strike(scene: Scene, name: str, rng: random.Random) -> dict[str, Any]:
    """Kill one while an evaluation is under way; seconds until the next one is done."""
    assert scene.process is not None
    while True:
        count, _ = scene.wait_for(scene.wait_for(0)[0] + 1)
        time.sleep(rng.uniform(0.2, 1.0))
        target = None if name == "nobody" else scene.victim(name)
        now, busy = scene.done()
        if now == count and busy and (target is not None or name == "nobody"):
            break
    start = time.perf_counter()
    if target is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            target.kill()
    if name == "run":
        scene.process.wait()
        scene.begin()
    if name == "mongod":  # it is not seen before it is back
        time.sleep(0.1)
    scene.wait_for(count + 1)
    return {"victim": name, "wait_s": round(time.perf_counter() - start, 3), "load": os.getloadavg()[0]}


def main(kills: int) -> None:
    """Each kind in turn, so that all see the same machine."""
    folder = Path(tempfile.mkdtemp(prefix="godelta-bench-"))
    rng, rows = random.Random(1), []
    scene = begin(folder, kills)
    try:
        for _ in range(kills):
            for name in VICTIMS:
                rows.append(strike(scene, name, rng))
                save("engine_recovery", {"rows": rows, "sleep_s": SLEEP_S})
                print(rows[-1])
    finally:
        scene.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=6, help="of each kind")
    main(parser.parse_args().kills)

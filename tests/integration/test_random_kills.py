"""kill -9 at random moments of a campaign: run, workers, the database server, the engine's process.

Whatever dies, the same command finishes the campaign, and what was paid for stays paid for.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import psutil
import pytest
from pymongo.errors import PyMongoError

from godelta.errors import GodeltaError
from godelta.store import campaigns, rounds, structures
from godelta.store.database import connect
from godelta.store.evaluations import MAX_LOST
from godelta.store.mongod import PrivateMongod
from godelta.store.workspace import Workspace

KILLS = int(os.environ.get("GODELTA_KILLS", "10"))
CAMPAIGN = {
    "name": "killed",
    "budget": {"chains": 2, "rounds": 20, "evaluations": 40},
    "search": {"structures_per_round": 6, "batch": 2},
    "resources": {"workers": 2, "evaluations_per_job": 1},
}
SLOW = """
import time
from ase.calculators.emt import EMT

class SlowEMT(EMT):
    def calculate(self, *args, **kwargs):
        time.sleep(0.7)
        super().calculate(*args, **kwargs)
"""


@dataclass
class Scene:
    """A workspace with a private server, and a `godelta run` that is started again when it was killed."""

    workspace: Workspace
    command: list
    environment: dict
    process: subprocess.Popen | None = None
    ended: int = 0  # processes that held, or might have held, an evaluation
    paid: dict = field(default_factory=dict)

    def begin(self):
        log = (self.workspace.folder / "run.log").open("ab")
        self.process = subprocess.Popen(
            self.command, stdout=log, stderr=log, env=self.environment, start_new_session=True
        )

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def workers(self):
        return [p for p in self._children() if "worker" in _words(p)]

    def engines(self):
        guards = [p for p in self._children() if "godelta.reference.guard" in _words(p)]
        return [child for guard in guards for child in _quietly(guard.children) or []]

    def kill(self, victim, rng):
        """Kill one; whether there was one to kill."""
        if victim == "run":
            targets = [psutil.Process(self.process.pid)]
            self.ended += len(self.workers())  # they stop with it
        elif victim == "mongod":
            pid = PrivateMongod(self.workspace.folder).status().pid
            targets = [psutil.Process(pid)] if pid else []
        else:
            targets = self.workers() if victim == "worker" else self.engines()
            self.ended += bool(targets)
        if not targets:
            return False
        target = targets[int(rng.integers(len(targets)))]
        _quietly(target.kill)
        return True

    def at_work(self):
        """Whether there is something to hurt; what was paid for at the last look has to be there still."""
        try:
            uri, name = self.workspace.database_uri(start=False)
            store = connect(uri, name, timeout_ms=1000)
        except GodeltaError:  # it has not begun, or the server was killed a moment ago
            return False
        try:
            campaign = campaigns.find_campaign(store, "killed")
            now = {
                raw["structure_hash"]: (raw["energy"], raw["token"], raw["evaluated_at"])
                for raw in store.evaluations.find({"state": "ok"})
            }
        except PyMongoError:
            return False
        finally:
            store.close()
        assert self.paid.items() <= now.items()
        self.paid = now
        return campaign is not None and campaign.state == "running" and bool(self.workers())

    def _children(self):
        if not self.alive():
            return []
        found = _quietly(lambda: psutil.Process(self.process.pid).children(recursive=True)) or []
        return [p for p in found if _quietly(p.status) not in (None, psutil.STATUS_ZOMBIE)]


def _quietly(call):
    try:
        return call()
    except psutil.NoSuchProcess:
        return None


def _words(process):
    return _quietly(process.cmdline) or []


@pytest.fixture
def scene(tmp_path, cheap):
    (tmp_path / "slow_emt.py").write_text(SLOW)
    reference = {"engine": "ase", "calculator": "slow_emt.SlowEMT"}
    path = tmp_path / "killed.yaml"
    path.write_text(json.dumps(cheap(**CAMPAIGN, reference=reference)))
    folder = tmp_path / "workspace"
    folder.mkdir()
    command = [sys.executable, "-m", "godelta.cli.main", "run", str(path), "--plain", "-w", str(folder)]
    made = Scene(Workspace(folder), command, os.environ | {"PYTHONPATH": str(tmp_path)})
    yield made
    if made.alive():
        os.killpg(made.process.pid, signal.SIGKILL)
    if made.process is not None:
        made.process.wait()
    PrivateMongod(folder).stop()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["run", "worker", "mongod", "engine"])
def test_killed_again_and_again(scene, victim):
    rng = np.random.default_rng(["run", "worker", "mongod", "engine"].index(victim))
    kills, starts = 0, 0
    deadline = time.monotonic() + 600
    while True:
        if not scene.alive():
            assert starts <= 4 * KILLS, (scene.workspace.folder / "run.log").read_text()[-3000:]
            scene.begin()
            starts += 1
        wait = time.monotonic() + float(rng.uniform(0.2, 3.0))
        while time.monotonic() < wait and scene.alive():
            time.sleep(0.05)
        if not scene.alive() and scene.process.returncode == 0:
            break
        if kills < KILLS and scene.at_work() and scene.kill(victim, rng):
            kills += 1
        assert time.monotonic() < deadline, (scene.workspace.folder / "run.log").read_text()[-3000:]
    assert kills == KILLS
    _is_whole(scene)


def _is_whole(scene):
    store = scene.workspace.connect(start=True)
    scene.at_work()
    campaign = campaigns.get_campaign(store, "killed")
    assert (campaign.state, campaign.reserved) == ("finished", ())
    for chain in range(2):
        own = rounds.rounds_of(store, campaign.campaign_id, chain)
        assert [round_.k for round_ in own] == list(range(len(own)))
        assert {round_.state for round_ in own} == {"closed"}
    selected = structures.selected_structures(store, campaign.campaign_id)
    raws = list(store.evaluations.find())
    assert {raw["structure_hash"] for raw in raws} == {s.structure_hash for s in selected}
    # Whose engine was killed three times in a row is in quarantine.
    quarantined = [raw for raw in raws if raw["state"] != "ok"]
    for raw in quarantined:
        assert (raw["state"], raw["reason"]) == ("failed", "lost")
        assert [a["outcome"] for a in raw["attempts"]] == ["lost"] * MAX_LOST
    assert len(quarantined) <= scene.ended // MAX_LOST
    assert campaign.spent == len(raws) == 40
    for raw in (raw for raw in raws if raw not in quarantined):
        assert [a["outcome"] for a in raw["attempts"]].count("ok") == 1
    started = sum(raw["token"] for raw in raws)
    assert started <= len(raws) + scene.ended
    store.close()
    left = [p for p in psutil.process_iter() if str(scene.workspace.scratch) in " ".join(_words(p))]
    assert left == []

"""The engine, its guard or the worker killed before any change that guard and engine make to a file."""

import json
import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from godelta.campaign import CampaignConfig
from godelta.makers.evaluate import run_evaluate
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.makers.session import Session
from godelta.reference.child import RESULT
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.settings import EMTSettings, Limits
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.documents import RoundKey
from godelta.workflows.submit import register

HOOK = Path(__file__).with_name("engine_kill_hook")
CLUSTER = Atoms("Cu3", positions=[[0, 0, 0], [2.4, 0.1, 0], [0, 2.5, 0.2]], cell=[12, 12, 12])
LAUNCHER = ("sh", "-c", '"$@"; exit $?', "sh")

WRITING = [f"engine {what} {RESULT}.tmp" for what in ("open", "write", "fsync", "os.rename")]
POINTS = ["engine open log.txt", *WRITING, "engine exit", "guard report", "guard exit"]
VICTIMS = ["engine", "guard", "worker"]


class Killer:
    """Orders for the hook, and what it saw."""

    def __init__(self, folder, within):
        self.folder, self.within = folder, within

    @contextmanager
    def killing(self, victim="nobody", n=0):
        """While it lasts, engines have the hook."""
        (self.folder / "points").unlink(missing_ok=True)
        order = {"within": f"{self.within}/", "n": n, "victim": victim}
        (self.folder / "order.json").write_text(json.dumps(order))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KILL_POINT", str(self.folder))
            patch.setenv("PYTHONPATH", str(HOOK), prepend=os.pathsep)
            yield

    def points(self):
        """What guard and engine were about to do."""
        return (self.folder / "points").read_text().splitlines()


@pytest.fixture
def killer(tmp_path, workspace):
    (tmp_path / "hook").mkdir()
    before = children()
    yield Killer(tmp_path / "hook", workspace.scratch.resolve())
    assert children() <= before


def children():
    found = psutil.Process().children(recursive=True)
    return {process for process in found if process.status() != psutil.STATUS_ZOMBIE}


def nothing_runs(folder, seconds=0.0):
    """Whether no process has to do with a folder, at once or after some time."""
    end = time.monotonic() + seconds
    while any(str(folder) in words(process) for process in psutil.process_iter()):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def words(process):
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def in_fork(task):
    """Do a task in a fork; the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            task()
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def points_for(victim):
    """Where it is there to be killed, counted from 1."""
    return [n for n, point in enumerate(POINTS, 1) if victim != "engine" or point.startswith("engine")]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), LAUNCHER], ids=["alone", "launched"])
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_later_attempt_has_the_same_result(killer, victim, launcher):
    settings = EMTSettings(limits=Limits(command_prefix=launcher, wall_seconds=60.0))
    with killer.killing():
        whole = evaluate_isolated(CLUSTER, settings, killer.within / "whole")
    assert killer.points() == POINTS
    assert (whole.status, whole.adopted) == ("ok", False)
    for n in points_for(victim):
        old, new = killer.within / f"{n}-1", killer.within / f"{n}-2"
        with killer.killing(victim, n):
            if victim == "worker":
                assert in_fork(lambda old=old: evaluate_isolated(CLUSTER, settings, old)) == signal.SIGKILL
                assert nothing_runs(old, seconds=10.0)
            else:
                outcome = evaluate_isolated(CLUSTER, settings, old)
                assert nothing_runs(old)
                assert (outcome.status, outcome.reason, outcome.energy) == ("failed", "killed", None)
                assert ("guards" in outcome.message) is (victim == "guard")
        assert killer.points()[:n] == POINTS[:n]
        left = (old / RESULT).exists()
        assert left is (n > 1 + POINTS.index(WRITING[-1]))
        if left:
            assert json.loads((old / RESULT).read_text())["energy"] == whole.energy
        again = evaluate_isolated(CLUSTER, settings, new, former=[old])
        assert (again.status, again.energy, again.adopted) == ("ok", whole.energy, left)
        np.testing.assert_array_equal(again.forces, whole.forces)
        assert nothing_runs(killer.within)


@pytest.fixture
def key(workspace, opened, cheap):
    """A round with a candidate for every point."""
    search = {"structures_per_round": 12, "selection": {"evaluations_per_round": len(POINTS)}}
    config = CampaignConfig.model_validate(cheap(search=search, budget={"evaluations": 20}))
    document = register(opened, config, Path())
    campaigns.set_state(opened, document.campaign_id, "created", "running")
    key = RoundKey(document.campaign_id, 0, 0)
    rounds.plan_round(opened, key, model_id=None)
    session = Session(workspace, opened)
    run_search(session, key, 0)
    run_select(session, key, 0)
    assert len(rounds.get_round(opened, key).selection) == len(POINTS)
    return key


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_campaign_has_one_result_and_one_lost_attempt(killer, workspace, opened, key, victim):
    session = Session(workspace, opened)

    def be_a_worker(slot):
        run_evaluate(Session(workspace, workspace.connect()), key, 0, slot)

    numbers = points_for(victim)
    for slot, n in enumerate(numbers):
        with killer.killing(victim, n):
            if victim == "worker":
                assert in_fork(lambda slot=slot: be_a_worker(slot)) == signal.SIGKILL
            assert run_evaluate(session, key, 0, slot) == "ok"
        assert killer.points()[:n] == POINTS[:n]
        assert run_evaluate(session, key, 0, slot) == "cached ok"
        document = structures.get_structure(opened, rounds.get_round(opened, key).selection[slot])
        campaign = campaigns.get_campaign(opened, key.campaign_id)
        done = evaluations.get_evaluation(opened, document.structure_hash, campaign.reference_hash)
        assert [attempt.outcome for attempt in done.attempts] == ["lost", "ok"]
        assert done.attempts[0].reason == ("lost" if victim == "worker" else "killed")
        atoms = document.atoms()
        atoms.calc = EMT()
        assert done.energy == atoms.get_potential_energy()
        np.testing.assert_array_equal(done.forces, atoms.get_forces())
        assert nothing_runs(workspace.scratch, seconds=10.0)
        assert list(workspace.scratch.iterdir()) == []
        assert (campaign.spent, campaign.reserved) == (slot + 1, ())
    assert opened.evaluations.count_documents({}) == len(numbers)

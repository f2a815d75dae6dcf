"""The database goes away, or loses the queue, while a campaign runs: it costs time and nothing else."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.mongod import PrivateMongod
from godelta.store.workspace import Workspace

OUTAGE_S = 60.0
QUEUE = ("fireworks", "launches", "workflows", "fw_id_assigner", "fw_gridfs.files", "job_outputs")
CAMPAIGN = {
    "budget": {"chains": 2, "rounds": 3, "evaluations": 12},
    "search": {"structures_per_round": 6, "batch": 2},
    "resources": {"workers": 2, "evaluations_per_job": 1},
    "share": False,
}
SLOW = """
import time
from ase.calculators.emt import EMT

class SlowEMT(EMT):
    def calculate(self, *args, **kwargs):
        time.sleep(2.0)
        super().calculate(*args, **kwargs)
"""


@pytest.fixture
def begin(tmp_path, cheap):
    """Start a `godelta run` of a campaign in a workspace."""
    (tmp_path / "slow_emt.py").write_text(SLOW)
    started = []

    def make(folder, name, **changes):
        folder.mkdir(exist_ok=True)
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(cheap(name=name, **(CAMPAIGN | changes))))
        command = [sys.executable, "-m", "godelta.cli.main", "run", str(path), "--plain", "-w", str(folder)]
        started.append(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | {"PYTHONPATH": str(tmp_path)},
            )
        )
        return started[-1]

    yield make
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition, process, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def closed(store, name):
    campaign = campaigns.find_campaign(store, name)
    if campaign is None:
        return 0
    return sum(r.state == "closed" for r in rounds.rounds_of(store, campaign.campaign_id))


def found(store, name):
    """What a campaign selected, per chain and round, and what it paid."""
    campaign = campaigns.get_campaign(store, name)
    assert (campaign.state, campaign.reserved) == ("finished", ())
    own = rounds.rounds_of(store, campaign.campaign_id)
    assert {round_.state for round_ in own} == {"closed"}
    return {
        (r.chain, r.k): [structures.get_structure(store, i).structure_hash for i in r.selection] for r in own
    }


@pytest.mark.slow
def test_a_minute_without_the_server(begin, tmp_path):
    folder = tmp_path / "workspace"
    process = begin(folder, "away", reference={"engine": "ase", "calculator": "slow_emt.SlowEMT"})
    server = PrivateMongod(folder)
    wait_for(lambda: server.status().running and len(_workers(process)) == 2, process)
    store = Workspace(folder).connect()
    wait_for(lambda: store.evaluations.count_documents({"lease": {"$ne": None}}) > 0, process)
    paid = {raw["structure_hash"] for raw in store.evaluations.find({"state": "ok"})}
    store.close()
    workers = {worker.pid for worker in _workers(process)}
    server.stop()  # in order: nobody starts it again
    time.sleep(OUTAGE_S)
    assert {worker.pid for worker in _workers(process)} == workers
    server.start()
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert "Traceback" not in out
    store = Workspace(folder).connect()
    found(store, "away")
    raws = list(store.evaluations.find())
    assert paid <= {raw["structure_hash"] for raw in raws if raw["state"] == "ok"}
    # Nothing was begun twice: those under way went on, and were stored when the server was back.
    assert [raw["token"] for raw in raws] == [1] * len(raws)
    store.close()
    server.stop()


def _workers(process):
    try:
        children = psutil.Process(process.pid).children()
        return [c for c in children if c.status() != psutil.STATUS_ZOMBIE and "worker" in c.cmdline()]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.slow
def test_the_queue_is_lost_in_mid_campaign(begin, workspace, opened):
    process = begin(workspace.folder, "whole")
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    process = begin(workspace.folder, "robbed")
    for number in (1, 3):
        wait_for(lambda number=number: closed(opened, "robbed") >= number, process)
        for name in QUEUE:
            opened.db.drop_collection(name)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert found(opened, "robbed") == found(opened, "whole")
    assert campaigns.get_campaign(opened, "robbed").spent == 0  # all of it was known from the first


@pytest.mark.slow
def test_two_runs_of_one_campaign_at_once(begin, workspace, opened):
    first, second = begin(workspace.folder, "twice"), begin(workspace.folder, "twice")
    outs = [process.communicate(timeout=240)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outs
    assert sum("Another `godelta run`" in out for out in outs) <= 1
    selected = {digest for own in found(opened, "twice").values() for digest in own}
    campaign = campaigns.get_campaign(opened, "twice")
    every = [evaluations.get_evaluation(opened, digest, campaign.reference_hash) for digest in selected]
    assert campaign.spent == len(every)
    assert [len(evaluation.attempts) for evaluation in every] == [1] * len(every)

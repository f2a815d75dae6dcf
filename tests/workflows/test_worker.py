"""Workers: the same seed gives the same structures, whoever does the jobs."""

import signal
import subprocess
import sys
import time

import pytest

from godelta.store import campaigns, evaluations, rounds, structures
from godelta.workflows.planner import advance


def results(store, campaign_id):
    """What a campaign found: per chain and round, the selected structures and their energies."""
    level = campaigns.get_campaign(store, campaign_id).reference_hash
    found = {}
    for round_ in rounds.rounds_of(store, campaign_id):
        documents = [structures.get_structure(store, i) for i in round_.selection]
        energies = [evaluations.get_evaluation(store, d.structure_hash, level).energy for d in documents]
        found[round_.chain, round_.k] = (
            [(d.structure_hash, d.model_energy, d.uncertainty) for d in documents],
            energies,
            rounds.load_search_state(store, round_.key),
        )
    return found


@pytest.fixture
def run_campaign(start, opened, launchpad, take_jobs):
    def run(name, **changes):
        campaign_id = start(name, **changes)
        advance(opened, launchpad, campaign_id)
        take_jobs(campaign_id=campaign_id, idle_seconds=5.0)
        assert campaigns.get_campaign(opened, campaign_id).state == "finished"
        return results(opened, campaign_id)

    return run


@pytest.fixture
def worker(engine):
    """Start `godelta worker` as a process."""
    started = []

    def begin(*arguments):
        command = [sys.executable, "-m", "godelta.cli.main", "worker", "--workspace", str(engine.folder)]
        started.append(
            subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        )
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("rex", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_same_campaign_twice(run_campaign, rex):
    budget = {"rounds": 3}
    first = run_campaign("first", rex=rex, budget=budget)
    assert len(first) == 3
    assert any(uncertainty is not None for _, _, uncertainty in first[0, 2][0])
    assert run_campaign("second", rex=rex, budget=budget) == first
    assert run_campaign("third", rex=rex, budget=budget, seed=4) != first


@pytest.mark.slow
@pytest.mark.parametrize("rex", [False, True])
def test_two_workers_on_chains_that_do_not_share(run_campaign, start, opened, launchpad, worker, rex):
    changes = {"share": False, "rex": rex, "budget": {"chains": 2, "rounds": 3, "evaluations": 12}}
    expected = run_campaign("alone", **changes)
    campaign_id = start("together", **changes)
    advance(opened, launchpad, campaign_id)
    processes = [worker("--campaign", campaign_id) for _ in range(2)]
    for process in processes:
        assert process.wait(timeout=120) == 0
    assert results(opened, campaign_id) == expected
    chains = {r.chain: r.next_model_id for r in rounds.rounds_of(opened, campaign_id) if r.k == 0}
    assert chains[0] != chains[1]
    names = {raw["fworker"]["name"] for raw in launchpad.launches.find({}, {"fworker.name": 1})}
    assert len(names) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_leaves_when_asked_to(worker, engine, number):
    process = worker()
    deadline = time.monotonic() + 60
    ready = engine.state / "workers"  # it makes its folder there when it is ready to take jobs
    while process.poll() is None and not list(ready.glob(f"*-{process.pid}")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=30) == 0
    assert b"Traceback" not in process.stderr.read()


def test_idle_workers_leave(worker):
    assert worker("--idle", "0.2").wait(timeout=60) == 0


def test_workers_of_an_ended_or_unknown_campaign_leave_at_once(worker, start, opened):
    campaign_id = start("ended")
    campaigns.set_state(opened, campaign_id, "running", "finished")
    assert worker("--campaign", "ended").wait(timeout=60) == 0
    unknown = worker("--campaign", "nobody")
    assert unknown.wait(timeout=60) == 2
    message = unknown.stderr.read().decode()
    assert "nobody" in message
    assert "ended" in message
    assert "Traceback" not in message

"""The evaluation job: paid once, never more than the budget, nothing left behind by a stop."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from pymongo.errors import AutoReconnect

from godelta.makers import evaluate, heartbeat
from godelta.makers.evaluate import run_evaluate
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.makers.session import Session, StopRequestedError
from godelta.reference import isolated
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.budget import evaluations_left
from godelta.store.database import Store
from godelta.store.documents import CampaignDocument, EvaluationDocument, RoundKey
from godelta.store.workers import WorkerName

SLOW = """
import time
from ase.calculators.emt import EMT

class SlowEMT(EMT):
    def __init__(self, seconds=30.0):
        super().__init__()
        self.seconds = seconds

    def calculate(self, *args, **kwargs):
        time.sleep(self.seconds)
        super().calculate(*args, **kwargs)
"""
REFUSED = {"limits": {"min_distance_factor": 9.0}}


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """Reference settings of a calculator that takes its time."""
    (tmp_path / "slow_emt.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda seconds: {
        "engine": "ase",
        "calculator": "slow_emt.SlowEMT",
        "arguments": {"seconds": seconds},
    }


@pytest.fixture
def selected(session, begin):
    """A round whose candidates have been selected."""

    def make(*args, **changes) -> RoundKey:
        key = begin(*args, **changes)
        run_search(session, key, 0)
        run_select(session, key, 0)
        assert len(rounds.get_round(session.store, key).selection) == 2
        return key

    return make


def campaign(store: Store, key: RoundKey) -> CampaignDocument:
    return campaigns.get_campaign(store, key.campaign_id)


def evaluation(store: Store, key: RoundKey, slot: int) -> EvaluationDocument:
    structure = structures.get_structure(store, rounds.get_round(store, key).selection[slot])
    return evaluations.get_evaluation(store, structure.structure_hash, campaign(store, key).reference_hash)


def test_energy_forces_and_bill(session, selected, opened):
    key = selected()
    assert run_evaluate(session, key, 0, 1) == "ok"
    done = evaluation(opened, key, 1)
    atoms = structures.get_structure(opened, rounds.get_round(opened, key).selection[1]).atoms()
    from ase.calculators.emt import EMT

    atoms.calc = EMT()
    assert done.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert done.energy_per_atom == pytest.approx(done.energy / 4)
    assert done.forces == pytest.approx(atoms.get_forces(), abs=1e-9)
    assert (campaign(opened, key).spent, campaign(opened, key).reserved) == (1, ())
    assert rounds.get_round(opened, key).state == "evaluating"
    assert rounds.get_round(opened, key).timings["reference_s"] > 0
    assert list(session.workspace.scratch.iterdir()) == []
    assert run_evaluate(session, key, 0, 7) == "empty"


def test_another_campaign_has_it_for_nothing(session, selected, opened, monkeypatch):
    first = selected("first")
    run_evaluate(session, first, 0, 0)
    second = selected("second")  # the same seed: the same structures
    monkeypatch.setattr(evaluate, "evaluate_isolated", None)
    assert run_evaluate(session, second, 0, 0) == "cached ok"
    assert evaluation(opened, second, 0) == evaluation(opened, first, 0)
    assert (campaign(opened, second).spent, campaign(opened, second).reserved) == (0, ())


def test_a_failure_becomes_a_document_and_is_paid(session, selected, opened):
    key = selected(reference=REFUSED)
    assert run_evaluate(session, key, 0, 0) == "failed"
    done = evaluation(opened, key, 0)
    assert (done.state, done.energy, done.lease) == ("failed", None, None)
    assert done.reason
    assert "Å" in done.message
    assert campaign(opened, key).spent == 1
    assert run_evaluate(session, key, 0, 0) == "cached failed"
    assert campaign(opened, key).spent == 1


def test_the_budget_is_never_overspent(session, selected, opened):
    key = selected(reference=REFUSED)
    raised = campaign(opened, key).config["budget"] | {"evaluations": 1}
    opened.campaigns.update_one({"campaign_id": key.campaign_id}, {"$set": {"config.budget": raised}})
    sessions = [Session(session.workspace, opened) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        slots = [0, 1, 0, 1]
        answers = list(pool.map(lambda i: run_evaluate(sessions[i], key, 0, slots[i]), range(4)))
    assert sum(answer == "failed" for answer in answers) == 1
    assert answers.count("budget spent") >= 1
    assert (campaign(opened, key).spent, campaign(opened, key).reserved) == (1, ())
    states = sorted(evaluation(opened, key, slot).state for slot in (0, 1))
    assert states == ["failed", "pending"]
    assert all(evaluation(opened, key, slot).lease is None for slot in (0, 1))


def test_a_stop_releases_lease_and_reservation(session, selected, opened, slow):
    key = selected(reference=slow(30.0))
    begun = time.monotonic()
    stopped = replace(session, should_stop=lambda: time.monotonic() - begun > 2.0)
    with pytest.raises(StopRequestedError):
        run_evaluate(stopped, key, 0, 0)
    assert time.monotonic() - begun < 15.0
    pending = evaluation(opened, key, 0)
    assert (pending.state, pending.lease, pending.attempts) == ("pending", None, ())
    assert (campaign(opened, key).spent, campaign(opened, key).reserved) == (0, ())


def test_a_second_worker_waits_for_the_first(session, selected, opened, slow):
    key = selected(reference=slow(1.5))
    other = Session(session.workspace, opened)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(run_evaluate(other, key, 0, 0)))
    thread.start()
    while opened.evaluations.count_documents({"lease": {"$ne": None}}) == 0:
        time.sleep(0.02)
    assert run_evaluate(session, key, 0, 0) == "cached ok"
    thread.join()
    assert answers == ["ok"]
    assert campaign(opened, key).spent == 1
    assert len(evaluation(opened, key, 0).attempts) == 1


def test_who_waits_can_be_stopped(session, selected, opened):
    key = selected()
    structure = structures.get_structure(opened, rounds.get_round(opened, key).selection[0])
    held = evaluations.claim(
        opened, structure.structure_hash, campaign(opened, key).reference_hash, "somebody", 60
    )
    with pytest.raises(StopRequestedError):
        run_evaluate(replace(session, should_stop=lambda: True), key, 0, 0)
    assert evaluation(opened, key, 0).lease.token == held.token


def test_the_lease_of_a_dead_worker_runs_out_soon(session, selected, opened, slow, monkeypatch):
    """It does not last for the longest evaluation that the limits allow."""
    monkeypatch.setattr(evaluate, "LEASE_S", 2.0)
    key = selected(reference=REFUSED)
    structure = structures.get_structure(opened, rounds.get_round(opened, key).selection[0])
    campaigns.reserve_evaluation(opened, key.campaign_id, 10, structure.structure_hash)
    level = campaign(opened, key).reference_hash
    evaluations.claim(opened, structure.structure_hash, level, "dead", evaluate.LEASE_S)
    begun = time.monotonic()
    assert run_evaluate(session, key, 0, 0) == "failed"
    assert time.monotonic() - begun < 10.0
    assert [attempt.outcome for attempt in evaluation(opened, key, 0).attempts] == ["lost", "failed"]
    assert (campaign(opened, key).spent, campaign(opened, key).reserved) == (1, ())


def test_a_living_worker_keeps_its_lease(session, selected, opened, slow, monkeypatch):
    monkeypatch.setattr(evaluate, "LEASE_S", 2.0)
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", 0.3)
    key = selected(reference=slow(4.0))
    assert run_evaluate(session, key, 0, 0) == "ok"
    assert [attempt.token for attempt in evaluation(opened, key, 0).attempts] == [1]


def test_who_lost_the_lease_stops_computing_and_takes_the_other_result(
    session, selected, opened, slow, monkeypatch
):
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", 0.2)
    key = selected(reference=slow(30.0))

    def steal() -> None:
        while (raw := opened.evaluations.find_one({"lease": {"$ne": None}})) is None:
            time.sleep(0.05)
        opened.evaluations.update_one({"_id": raw["_id"]}, {"$set": {"lease": None}})
        structure = structures.get_structure(opened, rounds.get_round(opened, key).selection[0])
        claim = evaluations.claim(opened, structure.structure_hash, raw["reference_hash"], "thief", 60)
        evaluations.commit_failed(opened, claim, "engine_error", "by the other one")

    thread = threading.Thread(target=steal)
    thread.start()
    begun = time.monotonic()
    assert run_evaluate(session, key, 0, 0) == "cached failed"
    assert time.monotonic() - begun < 20
    thread.join()
    assert evaluation(opened, key, 0).message == "by the other one"
    assert campaign(opened, key).reserved == ()


def test_a_kill_between_result_and_bill_is_settled_later(session, selected, opened, monkeypatch):
    key = selected(reference=REFUSED)
    with monkeypatch.context() as patch:

        def die(*_: object) -> None:
            raise SystemExit

        patch.setattr(evaluate.campaigns, "settle_evaluation", die)
        with pytest.raises(SystemExit):
            run_evaluate(session, key, 0, 0)
    assert (campaign(opened, key).spent, len(campaign(opened, key).reserved)) == (0, 1)
    assert run_evaluate(session, key, 0, 0) == "cached failed"
    assert (campaign(opened, key).spent, campaign(opened, key).reserved) == (1, ())


def test_an_old_epoch_evaluates_nothing(session, selected, opened):
    key = selected()
    rounds.bump_epoch(opened, key, 0)
    assert run_evaluate(session, key, 0, 0) == "superseded"
    assert campaign(opened, key).spent == 0
    assert run_evaluate(session, key, 1, 0) == "ok"
    rounds.bump_epoch(opened, key, 1)
    rounds.change_state(opened, key, 2, "selected", "evaluating")
    assert run_evaluate(session, key, 1, 1) == "superseded"


def take_lease(opened, key, owner):
    structure = structures.get_structure(opened, rounds.get_round(opened, key).selection[0])
    campaigns.reserve_evaluation(opened, key.campaign_id, 10, structure.structure_hash)
    level = campaign(opened, key).reference_hash
    return evaluations.claim(opened, structure.structure_hash, level, owner, evaluate.LEASE_S)


def test_nobody_waits_for_the_lease_of_a_worker_that_is_gone(session, selected, opened):
    key = selected(reference=REFUSED)
    own = WorkerName.own()
    take_lease(opened, key, str(replace(own, born=own.born - 60.0)))
    begun = time.monotonic()
    assert run_evaluate(session, key, 0, 0) == "failed"
    assert time.monotonic() - begun < 10.0 < evaluate.LEASE_S
    assert [attempt.outcome for attempt in evaluation(opened, key, 0).attempts] == ["lost", "failed"]
    assert (campaign(opened, key).spent, campaign(opened, key).reserved) == (1, ())


def test_a_result_that_a_killed_worker_could_not_store_is_adopted(session, selected, opened, monkeypatch):
    key = selected()
    with monkeypatch.context() as patch:

        def die(*_: object, **__: object) -> None:
            raise SystemExit

        patch.setattr(evaluate.evaluations, "commit_ok", die)
        with pytest.raises(SystemExit):
            run_evaluate(session, key, 0, 0)
    session.heartbeat.give_up_all()  # as if it had been another process
    monkeypatch.setattr(isolated, "run_guarded", None)
    assert run_evaluate(session, key, 0, 0) == "ok"
    done = evaluation(opened, key, 0)
    assert [attempt.outcome for attempt in done.attempts] == ["lost", "ok"]
    assert campaign(opened, key).spent == 1
    assert list(session.workspace.scratch.iterdir()) == []


KILLED = """
import os
import signal
from pathlib import Path
from ase.calculators.emt import EMT

class KilledEMT(EMT):
    def __init__(self, counter="", times=1):
        super().__init__()
        self.counter, self.times = Path(counter), times

    def calculate(self, *args, **kwargs):
        done = len(self.counter.read_text()) if self.counter.exists() else 0
        if done < self.times:
            self.counter.write_text("x" * (done + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        super().calculate(*args, **kwargs)
"""


@pytest.mark.parametrize(("times", "end"), [(2, "ok"), (99, "failed")])
def test_an_engine_that_is_killed_from_outside_gets_another_try_but_not_for_ever(
    session, selected, opened, tmp_path, monkeypatch, times, end
):
    (tmp_path / "killed_emt.py").write_text(KILLED)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = {"counter": str(tmp_path / "kills"), "times": times}
    key = selected(reference={"engine": "ase", "calculator": "killed_emt.KilledEMT", "arguments": arguments})
    answer = run_evaluate(session, key, 0, 0)
    done = evaluation(opened, key, 0)
    assert done.state == end
    assert answer.endswith(end)
    lost = min(times, evaluations.MAX_LOST)
    outcomes = [attempt.outcome for attempt in done.attempts]
    assert outcomes == ["lost"] * lost + (["ok"] if end == "ok" else [])
    assert "SIGKILL" in (done.attempts[0].message or "")
    assert (campaign(opened, key).spent, campaign(opened, key).reserved) == (1, ())
    assert (done.reason == "lost") is (end == "failed")


def test_the_heartbeat_outlives_an_outage(session, selected, opened, slow, monkeypatch, caplog):
    monkeypatch.setattr(evaluate, "LEASE_S", 2.0)
    monkeypatch.setattr(heartbeat, "BEAT_EVERY_S", 0.1)
    answers = iter([AutoReconnect("away")] * 8)
    prolong = evaluations.prolong

    def sometimes(*args: object) -> object:
        error = next(answers, None)
        if error is not None:
            raise error
        return prolong(*args)

    monkeypatch.setattr(heartbeat.evaluations, "prolong", sometimes)
    key = selected(reference=slow(4.0))
    assert run_evaluate(session, key, 0, 0) == "ok"
    assert [attempt.outcome for attempt in evaluation(opened, key, 0).attempts] == ["ok"]
    assert "does not answer" in caplog.text


def test_processor_time_is_a_budget(session, selected, opened):
    key = selected(budget={"cpu_hours": 1e-6})
    assert run_evaluate(session, key, 0, 0) == "ok"
    spent = campaign(opened, key).spent_cpu_s
    assert spent == pytest.approx(evaluation(opened, key, 0).cost["cpu_s"])
    assert spent > 0.0036
    assert run_evaluate(session, key, 0, 1) == "budget spent"
    assert evaluations_left(opened, key.campaign_id, session.parts(key.campaign_id).config, 0) == 0

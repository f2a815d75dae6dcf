"""The planner: called by anybody, at any time, it plans each round once and mends what is broken."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from godelta.makers.session import Session
from godelta.store import campaigns, rounds
from godelta.store.documents import RoundKey
from godelta.store.workers import WorkerName
from godelta.workflows import health, planner
from godelta.workflows.planner import advance


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(health, "STUCK_AFTER", timedelta(seconds=-1))


def marks(launchpad):
    return sorted(
        raw["metadata"]["godelta"].partition("/")[2]
        for raw in launchpad.workflows.find({"state": {"$ne": "ARCHIVED"}})
    )


def test_ten_calls_make_one_workflow(start, opened, launchpad):
    campaign_id = start(budget={"chains": 2})
    added = [advance(opened, launchpad, campaign_id) for _ in range(10)]
    assert added[0] == [f"{campaign_id}/0/0/0", f"{campaign_id}/1/0/0"]
    assert added[1:] == [[]] * 9
    assert marks(launchpad) == ["0/0/0", "1/0/0"]
    assert launchpad.fireworks.count_documents({}) == sum(
        len(raw["nodes"]) for raw in launchpad.workflows.find()
    )


def test_four_planners_at_once_make_one_workflow(start, opened, launchpad):
    for trial in range(5):
        campaign_id = start(f"trial-{trial}", budget={"chains": 3})
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(advance, [opened] * 4, [launchpad] * 4, [campaign_id] * 4))
        added = sorted(mark for answer in answers for mark in answer)
        assert added == [f"{campaign_id}/{chain}/0/0" for chain in range(3)]
        nodes = [n for raw in launchpad.workflows.find() for n in raw["nodes"]]
        # No Firework without a workflow: a worker would wait for its lock.
        assert sorted(nodes) == sorted(raw["fw_id"] for raw in launchpad.fireworks.find())
        assert launchpad.workflows.count_documents({}) == 3 * (trial + 1)


def test_four_planners_at_once_plan_a_lost_round_once(start, opened, launchpad, impatient):
    campaign_id = start()
    advance(opened, launchpad, campaign_id)
    launchpad.fireworks.delete_many({})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: advance(opened, launchpad, campaign_id), range(4)))
    live = marks(launchpad)
    assert len(live) == 1
    assert rounds.get_round(opened, RoundKey(campaign_id, 0, 0)).epoch == int(live[0].rpartition("/")[2])


@pytest.mark.parametrize("state", ["created", "paused", "failed", "finished", "cancelled"])
def test_only_running_campaigns_are_planned(start, opened, launchpad, state):
    campaign_id = start()
    campaigns.set_state(opened, campaign_id, "running", state)
    assert advance(opened, launchpad, campaign_id) == []
    assert launchpad.workflows.count_documents({}) == 0


def test_the_end_by_rounds_and_by_budget(start, opened, launchpad):
    for name, budget in (("rounds", {"rounds": 1}), ("budget", {"evaluations": 1, "rounds": 9})):
        campaign_id = start(name, budget=budget)
        key = RoundKey(campaign_id, 0, 0)
        rounds.plan_round(opened, key, None)
        states = ("planned", "searching", "selected", "evaluating", "closed")
        for old, new in pairwise(states):
            rounds.change_state(opened, key, 0, old, new)
        if name == "budget":
            campaigns.reserve_evaluation(opened, campaign_id, 1, "x")
            campaigns.settle_evaluation(opened, campaign_id, "x")
        assert advance(opened, launchpad, campaign_id) == []
        ended = campaigns.get_campaign(opened, campaign_id)
        assert ended.state == "failed"  # as not one structure was selected
        assert "no structure to evaluate" in ended.reason


@pytest.mark.slow
@pytest.mark.parametrize("collection", ["workflows", "fireworks", "launches", "fw_id_assigner", "all"])
def test_what_is_dropped_from_the_launchpad_is_rebuilt(
    start, opened, launchpad, take_jobs, impatient, engine, collection
):
    from godelta.workflows.launchpad import open_launchpad

    campaign_id = start()
    advance(opened, launchpad, campaign_id)
    for name in ["workflows", "fireworks", "launches", "fw_id_assigner"]:
        if collection in (name, "all"):
            launchpad.db.drop_collection(name)
    advance(opened, open_launchpad(engine), campaign_id)
    take_jobs(campaign_id=campaign_id)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    assert [round_.state for round_ in rounds.rounds_of(opened, campaign_id)] == ["closed"] * 2


def test_errors_are_tried_again_and_then_fail_the_campaign(start, opened, launchpad, take_jobs, monkeypatch):
    campaign_id = start()

    def explode(*_: object) -> None:
        raise RuntimeError("the potential melts")

    monkeypatch.setattr(Session, "potential", explode)
    for attempt in range(planner.MAX_FAILURES):
        advance(opened, launchpad, campaign_id)
        assert marks(launchpad) == [f"0/0/{attempt}"]
        assert take_jobs() == 1
    assert campaigns.get_campaign(opened, campaign_id).state == "running"
    advance(opened, launchpad, campaign_id)
    failed = campaigns.get_campaign(opened, campaign_id)
    assert failed.state == "failed"
    assert failed.reason == "chain 0, round 0: RuntimeError: the potential melts"


def test_a_failed_campaign_goes_on_when_started_again(start, opened, launchpad, take_jobs, monkeypatch):
    campaign_id = start()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "potential", None)
        for _ in range(planner.MAX_FAILURES):
            advance(opened, launchpad, campaign_id)
            take_jobs()
        advance(opened, launchpad, campaign_id)
    assert campaigns.set_state(opened, campaign_id, "failed", "running")
    advance(opened, launchpad, campaign_id)
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"


def test_a_stop_is_no_failure(start, opened, launchpad, take_jobs, monkeypatch):
    from godelta.makers.session import StopRequestedError

    campaign_id = start()

    def stop(*_: object) -> None:
        raise StopRequestedError

    with monkeypatch.context() as patch:
        patch.setattr(Session, "potential", stop)
        for _ in range(planner.MAX_FAILURES + 1):
            advance(opened, launchpad, campaign_id)
            take_jobs()
    advance(opened, launchpad, campaign_id)
    round_ = rounds.get_round(opened, RoundKey(campaign_id, 0, 0))
    assert (round_.failures, round_.epoch) == (0, planner.MAX_FAILURES + 1)
    assert campaigns.get_campaign(opened, campaign_id).state == "running"


def check_out(launchpad, name):
    from fireworks import FWorker

    firework, launch_id = launchpad.checkout_fw(FWorker(name=name), "/")
    return firework.fw_id, launch_id


def test_a_dead_workers_job_is_planned_anew(start, opened, launchpad):
    own = WorkerName.own()
    campaign_id = start()
    advance(opened, launchpad, campaign_id)
    check_out(launchpad, str(replace(own, born=own.born - 1000.0)))
    assert advance(opened, launchpad, campaign_id) == [f"{campaign_id}/0/0/1"]
    assert rounds.get_round(opened, RoundKey(campaign_id, 0, 0)).failures == 0
    # The old workflow's jobs are no longer to be had.
    assert launchpad.fireworks.count_documents({"state": {"$in": ["READY", "RUNNING"]}}) == 1


@pytest.mark.parametrize("name", ["own", "elsewhere/12@1.0", "by hand"])
def test_a_job_of_a_living_or_unknown_worker_is_left_alone(start, opened, launchpad, impatient, name):
    campaign_id = start()
    advance(opened, launchpad, campaign_id)
    check_out(launchpad, str(WorkerName.own()) if name == "own" else name)
    assert advance(opened, launchpad, campaign_id) == []


def test_a_worker_killed_while_it_reported_its_end(start, opened, launchpad, impatient):
    """FireWorks writes the launch first, the Firework after: between them nobody would come."""
    campaign_id = start()
    advance(opened, launchpad, campaign_id)
    _, launch_id = check_out(launchpad, "elsewhere/12@1.0")
    launchpad.launches.update_one({"launch_id": launch_id}, {"$set": {"state": "COMPLETED"}})
    assert advance(opened, launchpad, campaign_id) == [f"{campaign_id}/0/0/1"]


def test_a_workflow_stuck_behind_a_dead_lock(start, opened, launchpad, impatient):
    campaign_id = start()
    advance(opened, launchpad, campaign_id)
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    launchpad.fireworks.update_one({"state": "READY"}, {"$set": {"state": "COMPLETED"}})
    assert advance(opened, launchpad, campaign_id) == [f"{campaign_id}/0/0/1"]


def test_a_moment_of_nothing_ready_is_no_loss(start, opened, launchpad):
    campaign_id = start()
    advance(opened, launchpad, campaign_id)
    launchpad.fireworks.update_one({"state": "READY"}, {"$set": {"state": "COMPLETED"}})
    assert advance(opened, launchpad, campaign_id) == []


def test_chains_wait_for_nobody(start, opened, launchpad, take_jobs):
    """One chain's first round is held; the other goes on to its end."""
    campaign_id = start(budget={"chains": 2, "rounds": 2})
    advance(opened, launchpad, campaign_id)
    held = launchpad.workflows.find_one({"metadata.godelta": f"{campaign_id}/0/0/0"})["nodes"]
    query = {"fw_id": {"$in": held}, "state": "READY"}
    launchpad.fireworks.update_many(query, {"$set": {"state": "PAUSED"}})
    take_jobs(idle_seconds=1.0)
    states = {(r.chain, r.k): r.state for r in rounds.rounds_of(opened, campaign_id)}
    assert states == {(0, 0): "planned", (1, 0): "closed", (1, 1): "closed"}

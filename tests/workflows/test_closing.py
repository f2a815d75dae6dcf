"""A round that closes before its last evaluation is in: nobody waits, nothing is lost."""

import threading
import time
from datetime import timedelta

import pytest

from godelta.makers.evaluate import run_evaluate
from godelta.makers.retrain import run_retrain
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.makers.session import Session
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.documents import RoundKey
from godelta.workflows import health
from godelta.workflows.planner import advance

CHANGES = {
    "search": {"selection": {"evaluations_per_round": 3}},
    "resources": {"quorum": 0.6, "evaluations_per_job": 1},
    "budget": {"rounds": 3, "evaluations": 9},
}


@pytest.fixture
def session(engine, opened):
    return Session(engine, opened)


@pytest.fixture
def selected(start, opened, launchpad, session):
    """A planned campaign whose first round has selected three structures."""

    def make(**changes):
        campaign_id = start(**(CHANGES | changes))
        advance(opened, launchpad, campaign_id)
        key = RoundKey(campaign_id, 0, 0)
        run_search(session, key, 0)
        run_select(session, key, 0)
        assert len(rounds.get_round(opened, key).selection) == 3
        return key

    return make


def last_hash(opened, key):
    structure_id = rounds.get_round(opened, key).selection[-1]
    return structures.get_structure(opened, structure_id).structure_hash


def test_a_quorum_closes_the_round_once(selected, session, opened, launchpad):
    key = selected()
    mark = f"{key.campaign_id}/0/0/0/close/0"
    run_evaluate(session, key, 0, 0)
    assert advance(opened, launchpad, key.campaign_id) == []
    run_evaluate(session, key, 0, 1)
    assert advance(opened, launchpad, key.campaign_id) == [mark]
    assert advance(opened, launchpad, key.campaign_id) == []
    assert run_retrain(session, key, 0)["status"] == "closed"
    assert advance(opened, launchpad, key.campaign_id) == [f"{key.campaign_id}/0/1/0"]


def test_all_evaluations_are_no_quorum(selected, session, opened, launchpad):
    key = selected()
    for slot in range(3):
        run_evaluate(session, key, 0, slot)
    assert advance(opened, launchpad, key.campaign_id) == []


def test_the_last_round_waits_for_everything(selected, session, opened, launchpad):
    key = selected(budget={"rounds": 1})
    for slot in range(2):
        run_evaluate(session, key, 0, slot)
    assert advance(opened, launchpad, key.campaign_id) == []


def test_a_deadline_needs_one_evaluation(selected, session, opened, launchpad):
    key = selected(resources={"quorum": 1.0, "deadline_hours": 1e-6})
    time.sleep(0.05)
    assert advance(opened, launchpad, key.campaign_id) == []
    run_evaluate(session, key, 0, 0)
    assert advance(opened, launchpad, key.campaign_id) == [f"{key.campaign_id}/0/0/0/close/0"]


def test_a_closing_that_got_lost_is_added_again(selected, session, opened, launchpad, monkeypatch):
    key = selected()
    for slot in range(2):
        run_evaluate(session, key, 0, slot)
    advance(opened, launchpad, key.campaign_id)
    monkeypatch.setattr(health, "STUCK_AFTER", timedelta(seconds=-1))
    closing = launchpad.workflows.find_one({"metadata.godelta": {"$regex": "close"}})
    launchpad.fireworks.update_many(
        {"fw_id": {"$in": closing["nodes"]}, "state": "READY"}, {"$set": {"state": "COMPLETED"}}
    )
    assert advance(opened, launchpad, key.campaign_id) == [f"{key.campaign_id}/0/0/0/close/1"]


def test_what_is_late_belongs_to_the_next_round(selected, session, opened, launchpad):
    key = selected()
    late = rounds.get_round(opened, key).selection[2]
    for slot in range(2):
        run_evaluate(session, key, 0, slot)
    run_retrain(session, key, 0)
    assert run_evaluate(session, key, 0, 2) == "superseded"
    advance(opened, launchpad, key.campaign_id)
    following = RoundKey(key.campaign_id, 0, 1)
    run_search(session, following, 0)
    run_select(session, following, 0)
    selection = rounds.get_round(opened, following).selection
    assert len(selection) == 3
    assert selection[2] == late
    assert not set(selection[:2]) & set(rounds.get_round(opened, key).selection)
    for slot in range(3):
        assert run_evaluate(session, following, 0, slot) == "ok"
    assert campaigns.get_campaign(opened, key.campaign_id).spent == 5


NO_WAITING = {"resources": {"wait": False, "evaluations_per_job": 1}}


def test_a_round_that_does_not_wait_closes_with_its_selection(selected, session, opened, launchpad):
    key = selected(**NO_WAITING)
    assert advance(opened, launchpad, key.campaign_id) == [f"{key.campaign_id}/0/0/0/close/0"]
    run_retrain(session, key, 0)
    assert advance(opened, launchpad, key.campaign_id) == [f"{key.campaign_id}/0/1/0"]
    following = RoundKey(key.campaign_id, 0, 1)
    run_search(session, following, 0)
    run_select(session, following, 0)
    first, second = (rounds.get_round(opened, one).selection for one in (key, following))
    assert len(second) == 3
    assert not set(first) & set(second)
    # Evaluations of two rounds are under way, and of no third one.
    assert advance(opened, launchpad, key.campaign_id) == []
    assert [run_evaluate(session, key, 0, slot) for slot in range(3)] == ["ok"] * 3
    assert advance(opened, launchpad, key.campaign_id) == [f"{key.campaign_id}/0/1/0/close/0"]
    assert [run_evaluate(session, following, 0, slot) for slot in range(3)] == ["ok"] * 3
    assert campaigns.get_campaign(opened, key.campaign_id).spent == 6


def test_without_waiting_the_budget_is_kept(selected, session, opened, launchpad):
    """What is left of it is selected by the round that waits."""
    key = selected(**NO_WAITING, budget={"rounds": 9, "evaluations": 5})
    advance(opened, launchpad, key.campaign_id)
    run_retrain(session, key, 0)
    advance(opened, launchpad, key.campaign_id)
    following = RoundKey(key.campaign_id, 0, 1)
    run_search(session, following, 0)
    run_select(session, following, 0)
    assert len(rounds.get_round(opened, following).selection) == 2
    assert [run_evaluate(session, key, 0, slot) for slot in range(3)] == ["ok"] * 3
    assert advance(opened, launchpad, key.campaign_id) == []  # nothing would be left to select
    assert [run_evaluate(session, following, 0, slot) for slot in range(2)] == ["ok"] * 2
    run_retrain(session, following, 0)
    advance(opened, launchpad, key.campaign_id)
    campaign = campaigns.get_campaign(opened, key.campaign_id)
    assert (campaign.state, campaign.spent) == ("finished", 5)


def test_what_got_lost_without_waiting_is_selected_again(selected, session, opened, launchpad):
    key = selected(**NO_WAITING)
    lost = set(rounds.get_round(opened, key).selection)
    run_retrain(session, key, 0)
    following = RoundKey(key.campaign_id, 0, 1)
    advance(opened, launchpad, key.campaign_id)
    run_search(session, following, 0)
    run_select(session, following, 0)
    for slot in range(3):
        run_evaluate(session, following, 0, slot)
    run_retrain(session, following, 0)
    advance(opened, launchpad, key.campaign_id)
    last = RoundKey(key.campaign_id, 0, 2)
    run_search(session, last, 0)
    run_select(session, last, 0)
    assert set(rounds.get_round(opened, last).selection) == lost


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rss", "bh", "gofee", "rex"])
def test_every_method_goes_on_without_waiting(start, opened, launchpad, take_jobs, method):
    search = {"method": method, "selection": {"evaluations_per_round": 2, "diverse": True}}
    campaign_id = start(**NO_WAITING, search=search, budget={"rounds": 4, "evaluations": 6})
    advance(opened, launchpad, campaign_id)
    take_jobs()
    campaign = campaigns.get_campaign(opened, campaign_id)
    assert campaign.state == "finished", campaign.reason
    assert campaign.spent == evaluations.counts(opened, campaign_id, campaign.reference_hash)["ok"]


@pytest.mark.slow
def test_a_slow_evaluation_holds_up_nobody(start, opened, launchpad, take_jobs, session):
    """Its worker is at it, living, all the time that others finish the rounds."""
    campaign_id = start(**CHANGES)
    advance(opened, launchpad, campaign_id)
    key = RoundKey(campaign_id, 0, 0)
    run_search(session, key, 0)
    run_select(session, key, 0)
    digest = last_hash(opened, key)
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    campaigns.reserve_evaluation(opened, campaign_id, 9, digest)
    slow = evaluations.claim(opened, digest, level, "somebody slow", 600)

    def planner():
        while rounds.find_round(opened, RoundKey(campaign_id, 0, 1)) is None:
            advance(opened, launchpad, campaign_id)
            time.sleep(0.2)
        evaluations.commit_ok(opened, slow, 5.0, [[0.0] * 3] * 4)
        campaigns.settle_evaluation(opened, campaign_id, digest)

    helper = threading.Thread(target=planner)
    helper.start()
    deadline = time.monotonic() + 90
    # The worker of this process waits for the slow one; a second worker closes the round meanwhile.
    other = Session(session.workspace, opened)
    while rounds.get_round(opened, key).state != "closed" and time.monotonic() < deadline:
        run_evaluate(session, key, 0, 0)
        run_evaluate(session, key, 0, 1)
        if launchpad.workflows.count_documents({"metadata.godelta": {"$regex": "close"}}):
            run_retrain(other, key, 0)
    helper.join()
    take_jobs(campaign_id=campaign_id, idle_seconds=5.0)
    campaign = campaigns.get_campaign(opened, campaign_id)
    assert (campaign.state, campaign.reserved) == ("finished", ())
    assert {r.state for r in rounds.rounds_of(opened, campaign_id)} == {"closed"}
    assert [r.k for r in rounds.rounds_of(opened, campaign_id)] == [0, 1, 2]
    assert evaluations.get_evaluation(opened, digest, level).energy == 5.0

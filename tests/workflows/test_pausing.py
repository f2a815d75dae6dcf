"""Pausing, resuming and cancelling, at every state and moment."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from godelta.errors import InputError
from godelta.store import campaigns, rounds
from godelta.store.documents import RoundKey
from godelta.workflows.batch import BatchWatch
from godelta.workflows.pausing import cancel, pause, resume
from godelta.workflows.planner import advance
from godelta.workflows.restart import RestartOptions, mend
from godelta.workflows.submit import register

STATES = ("created", "running", "paused", "finished", "failed", "cancelled")


@pytest.fixture
def begun(start, opened, launchpad):
    def make(name="cheap", **changes):
        campaign_id = start(name, share=False, **changes)
        advance(opened, launchpad, campaign_id)
        return campaign_id

    return make


def waiting(launchpad):
    return launchpad.fireworks.count_documents({"state": {"$in": ["READY", "WAITING"]}})


def state_of(opened, campaign_id):
    return campaigns.get_campaign(opened, campaign_id).state


@pytest.mark.slow
@pytest.mark.parametrize("done", range(7))
def test_pause_and_resume_at_every_job(begun, do_jobs, take_jobs, opened, launchpad, as_undisturbed, done):
    campaign_id = begun()
    do_jobs(done)
    answer = pause(opened, launchpad, "cheap")
    assert answer.sentence == "cheap is paused. `godelta resume cheap` goes on."
    assert waiting(launchpad) == 0
    assert advance(opened, launchpad, campaign_id) == []
    assert mend(opened, launchpad, campaign_id, RestartOptions(named=True), BatchWatch(opened)) == []
    assert take_jobs() == 0
    assert state_of(opened, campaign_id) == "paused"
    assert "is paused already" in pause(opened, launchpad, campaign_id).sentence
    assert resume(opened, launchpad, "cheap").sentence == "cheap goes on."
    assert waiting(launchpad) > 0  # at once
    assert resume(opened, launchpad, "cheap").sentence == "cheap is running already."
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    as_undisturbed(campaign_id)


def test_a_job_under_way_finishes_and_is_kept(begun, do_jobs, opened, launchpad, take_jobs, as_undisturbed):
    """Its end makes no job ready, in the old attempt nor in the new one."""
    campaign_id = begun()
    do_jobs(2)
    with held(launchpad) as finish:
        assert "jobs under way: 1, they finish" in pause(opened, launchpad, "cheap").sentence
        finish()
    assert waiting(launchpad) == 0
    assert opened.evaluations.count_documents({"state": "ok"}) == 2
    assert take_jobs() == 0
    resume(opened, launchpad, "cheap")
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    as_undisturbed(campaign_id)


def test_resumed_while_a_job_is_under_way(begun, do_jobs, opened, launchpad, take_jobs, as_undisturbed):
    campaign_id = begun()
    do_jobs(2)
    with held(launchpad) as finish:
        pause(opened, launchpad, "cheap")
        resume(opened, launchpad, "cheap")
        assert rounds.get_round(opened, RoundKey(campaign_id, 0, 0)).epoch == 1
        finish()
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    as_undisturbed(campaign_id)


@contextlib.contextmanager
def held(launchpad):
    """A worker that has taken a job, and does it when it is told to."""
    from fireworks import FWorker
    from fireworks.core.rocket import Rocket

    from godelta.makers.session import current_session

    taken, go = threading.Event(), threading.Event()
    original = launchpad.checkout_fw

    def checkout(*args, **kwargs):
        answer = original(*args, **kwargs)
        taken.set()
        assert go.wait(30)
        return answer

    launchpad.checkout_fw = checkout
    name = str(current_session().heartbeat.name)
    thread = threading.Thread(target=Rocket(launchpad, FWorker(name=name), None).run)
    thread.start()
    try:
        assert taken.wait(30)
        launchpad.checkout_fw = original

        def finish():
            go.set()
            thread.join(60)
            assert not thread.is_alive()

        yield finish
    finally:
        go.set()
        launchpad.checkout_fw = original


@pytest.mark.parametrize("command", [pause, resume, cancel])
@pytest.mark.parametrize("state", STATES)
def test_every_command_at_every_state(begun, opened, launchpad, command, state):
    """Twice, since each may be repeated."""
    campaign_id = begun()
    campaigns.set_state(opened, campaign_id, "running", state)
    expected = {
        (pause, "running"): "paused",
        (resume, "paused"): "running",
        **{(cancel, before): "cancelled" for before in ("created", "running", "paused", "failed")},
    }.get((command, state), state)
    first = command(opened, launchpad, "cheap")
    second = command(opened, launchpad, "cheap")
    assert state_of(opened, campaign_id) == expected
    assert first.done == second.done == (expected != state or (command, state) in ALREADY)
    if not first.done:
        assert "left alone" in first.sentence or "`godelta" in first.sentence
    if expected in ("paused", "cancelled"):
        assert waiting(launchpad) == 0
    assert "cheap" in first.sentence


ALREADY = {(pause, "paused"), (resume, "running"), (cancel, "cancelled")}


def test_a_cancelled_campaign_is_not_taken_up_again_by_accident(
    begun, do_jobs, opened, launchpad, take_jobs, cheap_config, engine, as_undisturbed
):
    campaign_id = begun()
    do_jobs(3)
    assert "is cancelled; what has been evaluated stays" in cancel(opened, launchpad, "cheap").sentence
    assert opened.evaluations.count_documents({"state": "ok"}) == 2
    with pytest.raises(InputError, match=r"was cancelled\n.*resume --reopen cheap"):
        register(opened, cheap_config(share=False), engine.folder)
    assert resume(opened, launchpad, "cheap").done is False
    assert take_jobs() == 0
    assert resume(opened, launchpad, "cheap", reopen=True).sentence == "cheap goes on."
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    as_undisturbed(campaign_id)


def test_a_search_of_a_cancelled_campaign_stops(begun, engine, opened, launchpad):
    from godelta.makers.search import run_search
    from godelta.makers.session import Session

    campaign_id = begun()
    session = Session(engine, opened)
    cancel(opened, launchpad, "cheap")
    assert run_search(session, RoundKey(campaign_id, 0, 0), 0)["status"] == "superseded"


def test_an_advance_that_comes_too_late_leaves_nothing_in_the_queue(start, opened, launchpad, monkeypatch):
    """It reads that the campaign runs; before it adds a round, the campaign is paused."""
    from godelta.workflows import planner

    campaign_id = start()
    open_round = planner.open_round

    def paused_meanwhile(*args):
        pause(opened, launchpad, campaign_id)
        return open_round(*args)

    monkeypatch.setattr(planner, "open_round", paused_meanwhile)
    advance(opened, launchpad, campaign_id)
    assert launchpad.workflows.count_documents({}) == 1
    assert waiting(launchpad) == 0


def test_paused_and_resumed_by_many_at_once(begun, opened, launchpad, take_jobs, as_undisturbed):
    campaign_id = begun()
    commands = [pause, resume, advance] * 4
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda command: command(opened, launchpad, campaign_id), commands))
    pause(opened, launchpad, campaign_id)
    assert waiting(launchpad) == 0
    resume(opened, launchpad, campaign_id)
    live = launchpad.workflows.count_documents({"state": {"$ne": "ARCHIVED"}})
    assert live == 1
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    as_undisturbed(campaign_id)


def test_other_campaigns_are_left_alone(begun, opened, launchpad):
    begun("one")
    before = waiting(launchpad)
    begun("two", seed=9)
    pause(opened, launchpad, "two")
    assert waiting(launchpad) == before
    cancel(opened, launchpad, "two")
    assert waiting(launchpad) == before

"""Failed evaluations that are tried again: which, how often, and by which round."""

from pathlib import Path

import pytest

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, evaluations, retries, rounds
from godelta.store.documents import RoundKey
from godelta.store.retries import MAX_RETRIES, failed_evaluations
from godelta.workflows.batch import BatchWatch
from godelta.workflows.planner import advance
from godelta.workflows.restart import RestartOptions, mend, survey

ENGINE = {"engine": "ase", "calculator": "flaky_reference.Flaky"}
ALL = RestartOptions(frozenset({"all"}), named=True)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """The reference is broken while this file is there."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    path = tmp_path / "broken"
    monkeypatch.setenv("GODELTA_TEST_BROKEN", str(path))
    path.touch()
    return path


@pytest.fixture
def begun(broken, start, opened, launchpad):
    def make(rounds_=3, evaluations_=10, **changes):
        campaign_id = start(
            reference=ENGINE, budget={"rounds": rounds_, "evaluations": evaluations_}, **changes
        )
        advance(opened, launchpad, campaign_id)
        return campaign_id

    return make


@pytest.fixture
def restart(opened, launchpad):
    def mend_it(campaign_id, options=ALL):
        return mend(opened, launchpad, campaign_id, options, BatchWatch(opened))

    return mend_it


@pytest.fixture
def said(opened, launchpad):
    """What a restart says of failed evaluations: found, will, acts."""

    def look(campaign_id, options=ALL):
        campaign = campaigns.get_campaign(opened, campaign_id)
        config = CampaignConfig.model_validate(campaign.config)
        found = survey(opened, launchpad, campaign, config, options, BatchWatch(opened)).findings
        return [(one.found, one.will, one.acts) for one in found if one.place == "evaluations"]

    return look


def outcomes(opened):
    return sorted([a["outcome"] for a in raw["attempts"]] for raw in opened.evaluations.find())


@pytest.mark.parametrize("done", [3, 4, 5], ids=["round open", "round closed", "next one searched"])
def test_once_the_reference_works_again(begun, broken, restart, said, do_jobs, take_jobs, opened, done):
    campaign_id = begun()
    do_jobs(3)
    broken.unlink()
    do_jobs(done - 3)
    found = "2 failed: engine_error"
    kept = [(found, "kept; --retry engine_error tries them again", False)]
    assert said(campaign_id, RestartOptions()) == kept
    assert said(campaign_id) == [(found, "tried again", True)]
    restart(campaign_id, RestartOptions())
    assert len(failed_evaluations(opened, campaigns.get_campaign(opened, campaign_id))) == 2
    restart(campaign_id)
    restart(campaign_id)
    assert said(campaign_id) == []
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    campaign = campaigns.get_campaign(opened, campaign_id)
    own = rounds.rounds_of(opened, campaign_id)
    assert campaign.state == "finished", campaign.reason
    assert [round_.state for round_ in own] == ["closed"] * 3
    assert outcomes(opened).count(["failed", "ok"]) == 2
    assert len({tuple(o) for o in outcomes(opened)} - {("failed", "ok"), ("ok",)}) == 0
    assert campaign.spent == sum(map(len, outcomes(opened)))
    assert campaign.reserved == ()
    # In the round that selected them while it was open, else at the end of the next selection.
    again = set(own[0].selection)
    assert again.isdisjoint(own[1].selection) == (done == 3)


def test_the_last_round_takes_its_own_again(begun, broken, restart, do_jobs, take_jobs, opened):
    campaign_id = begun(rounds_=1)
    do_jobs(3)
    broken.unlink()
    assert [mark.rpartition("/")[2] for mark in restart(campaign_id)] == ["1"]
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    assert outcomes(opened) == [["failed", "ok"]] * 2


@pytest.mark.parametrize("budget", [{"evaluations_": 2}, {"rounds_": 1}])
def test_where_no_budget_or_round_is_left(begun, broken, restart, said, do_jobs, opened, launchpad, budget):
    campaign_id = begun(**budget)
    do_jobs(4)  # the first round is closed
    broken.unlink()
    opened.campaigns.update_one({}, {"$set": {"state": "running"}})
    ((found, will, acts),) = said(campaign_id)
    assert (found, acts) == ("2 failed: engine_error", False)
    assert "no budget or round is left" in will
    restart(campaign_id)
    assert outcomes(opened) == [["failed"]] * 2
    assert opened.evaluations.count_documents({"state": "failed"}) == 2


@pytest.mark.slow
def test_after_enough_retries_a_structure_is_in_quarantine(begun, restart, said, do_jobs, opened):
    campaign_id = begun(evaluations_=100)
    do_jobs(3)
    for number in range(1, MAX_RETRIES + 1):
        assert said(campaign_id) == [("2 failed: engine_error", "tried again", True)]
        assert [mark.rpartition("/")[2] for mark in restart(campaign_id)] == [str(number)]
        do_jobs(3)  # search and selection are done before
    expected = [("2 failed: engine_error", f"in quarantine: failed {MAX_RETRIES + 1} times", False)]
    assert said(campaign_id) == expected
    assert restart(campaign_id) == []
    assert outcomes(opened) == [["failed"] * (MAX_RETRIES + 1)] * 2
    assert opened.evaluations.count_documents({"state": "failed"}) == 2


def test_what_says_nothing_of_the_structure_is_tried_again_unasked(
    begun, broken, restart, said, do_jobs, take_jobs, opened
):
    campaign_id = begun()
    do_jobs(2)
    level = campaigns.get_campaign(opened, campaign_id).reference_hash
    broken.unlink()
    first = opened.structures.find_one(
        {"structure_id": rounds.get_round(opened, RoundKey(campaign_id, 0, 0)).selection[0]}
    )["structure_hash"]
    while not isinstance(evaluations.claim(opened, first, level, "x", 0.0), evaluations.Stored):
        pass
    do_jobs(1)
    assert said(campaign_id, RestartOptions()) == [("1 failed: lost", "tried again", True)]
    assert said(campaign_id, RestartOptions(frozenset({"none"}))) == [
        ("1 failed: lost", "kept; --retry lost tries them again", False)
    ]
    restart(campaign_id, RestartOptions())
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    assert evaluations.get_evaluation(opened, first, level).state == "ok"


@pytest.mark.parametrize(
    ("reason", "named", "goes_on"),
    [
        ("chain 0, round 0: RuntimeError: the potential melts", False, False),
        ("chain 0, round 0: RuntimeError: the potential melts", True, True),
        ("chain 0, round 0: OSError: [Errno 28] No space left on device", False, True),
        ("chain 0, round 0: pymongo.errors.WriteError: not now", False, True),
        (None, False, False),
    ],
)
def test_failed_campaigns(begun, restart, opened, launchpad, reason, named, goes_on):
    campaign_id = begun()
    campaigns.set_state(opened, campaign_id, "running", "failed", reason=reason)
    options = RestartOptions(named=named)
    campaign = campaigns.get_campaign(opened, campaign_id)
    config = CampaignConfig.model_validate(campaign.config)
    before = survey(opened, launchpad, campaign, config, options, BatchWatch(opened))
    assert before.acts == goes_on
    restart(campaign_id, options)
    assert campaigns.get_campaign(opened, campaign_id).state == ("running" if goes_on else "failed")


def test_the_failure_counter_goes_on(begun, restart, do_jobs, opened, launchpad, monkeypatch):
    from godelta.makers.session import Session

    campaign_id = begun()
    monkeypatch.setattr(Session, "potential", None)
    for attempt in range(6):
        do_jobs(1)
        state = "failed" if attempt % 3 == 2 else "running"
        advance(opened, launchpad, campaign_id)
        assert campaigns.get_campaign(opened, campaign_id).state == state
        if state == "failed":
            assert restart(campaign_id, RestartOptions()) == []
            assert len(restart(campaign_id)) == 1
    assert rounds.get_round(opened, RoundKey(campaign_id, 0, 0)).failures == 6


def test_how_often_an_evaluation_has_ended():
    attempts = [{"outcome": outcome} for outcome in ("lost", "failed", "lost", "lost", "lost", "failed")]
    assert [retries.endings(attempts[:n]) for n in range(7)] == [0, 0, 1, 1, 1, 2, 3]


def test_a_campaign_without_one_good_evaluation_goes_on_with_a_larger_budget(
    begun, broken, restart, said, take_jobs, opened, cheap_config
):
    from godelta.workflows.submit import register

    campaign_id = begun(rounds_=1)
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    assert "none of its 2 evaluations succeeded" in campaigns.get_campaign(opened, campaign_id).reason
    broken.unlink()
    register(opened, cheap_config(reference=ENGINE, budget={"rounds": 3, "evaluations": 10}), Path())
    assert said(campaign_id) == [("2 failed: engine_error", "tried again", True)]
    assert len(restart(campaign_id)) == 1
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    assert campaigns.get_campaign(opened, campaign_id).state == "finished"
    assert outcomes(opened).count(["failed", "ok"]) == 2


@pytest.mark.slow
def test_failures_of_rounds_long_past_are_tried_again_a_few_per_round(
    begun, broken, restart, do_jobs, take_jobs, opened
):
    campaign_id = begun(rounds_=6, evaluations_=40)
    do_jobs(10)  # two rounds
    broken.unlink()
    do_jobs(5)
    restart(campaign_id)
    take_jobs(campaign_id=campaign_id, idle_seconds=2.0)
    own = rounds.rounds_of(opened, campaign_id)
    late = sorted([*own[0].selection, *own[1].selection])
    assert len(late) == 4
    assert sorted([*own[3].selection, *own[4].selection]) == late
    assert set(own[5].selection).isdisjoint(late)
    assert outcomes(opened).count(["failed", "ok"]) == 4

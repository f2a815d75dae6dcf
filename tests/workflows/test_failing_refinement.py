"""A reference that fails while a campaign is refined: how it ends, and how it goes on when that is mended."""

import pytest
from ase.calculators.emt import EMT

from godelta.reference.isolated import Outcome
from godelta.search.settings import REFINEMENT
from godelta.store import campaigns, rounds
from godelta.store.documents import REFINEMENT_CHAIN
from godelta.workflows.planner import advance
from godelta.workflows.submit import register
from godelta.workflows.submit import start as start_again

SEARCH = {"budget": {"rounds": 1, "evaluations": 4}, "search": {"selection": {"evaluations_per_round": 4}}}


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """The reference, in this process, is broken while this file is there."""
    path = tmp_path / "broken"

    def evaluate(atoms, settings, scratch, **more):
        if path.exists():
            return Outcome("failed", reason="engine_error", message="the licence server does not answer")
        atoms.calc = EMT()
        return Outcome("ok", atoms.get_potential_energy(), atoms.get_forces())

    monkeypatch.setattr("godelta.makers.evaluate.evaluate_isolated", evaluate)
    return path


@pytest.fixture
def failing(broken, start, opened, launchpad, take_jobs, cheap_config, tmp_path):
    """A campaign whose reference breaks when its search has ended, at its end."""

    def make(best):
        campaign_id = start(**SEARCH)
        advance(opened, launchpad, campaign_id)
        take_jobs(campaign_id=campaign_id)
        broken.touch()
        wanted = cheap_config(**SEARCH, refine={"best": best, "fmax": 0.2, "evaluations": 40})
        register(opened, wanted, tmp_path)
        assert start_again(opened, launchpad, campaign_id)
        take_jobs(campaign_id=campaign_id)
        return campaigns.get_campaign(opened, campaign_id)

    return make


def tracks(store, campaign):
    own = rounds.rounds_of(store, campaign.campaign_id, REFINEMENT_CHAIN)
    return next(r.statistics[REFINEMENT]["tracks"] for r in reversed(own) if r.statistics)


def test_three_failures_end_a_track_and_the_campaign_finishes(failing, opened):
    campaign = failing(best=1)
    assert (campaign.state, campaign.reason) == ("finished", None)
    (track,) = tracks(opened, campaign)
    assert (track["status"], track["evaluations"]) == ("failed", 3)
    assert opened.evaluations.count_documents({"state": "failed"}) == 3
    assert opened.evaluations.count_documents({"state": "pending"}) == 0


@pytest.mark.slow
def test_where_all_evaluations_fail_it_says_so_and_goes_on_when_that_is_mended(
    failing, broken, opened, launchpad, take_jobs
):
    campaign = failing(best=2)
    assert campaign.state == "failed"
    assert "the licence server does not answer" in campaign.reason
    assert opened.evaluations.count_documents({"state": "failed"}) == 6
    broken.unlink()
    assert start_again(opened, launchpad, campaign.campaign_id)
    take_jobs(campaign_id=campaign.campaign_id)
    again = campaigns.get_campaign(opened, campaign.campaign_id)
    assert (again.state, again.reason) == ("finished", None)
    assert {track["status"] for track in tracks(opened, again)} == {"converged"}
    assert opened.evaluations.count_documents({"state": "failed"}) == 6
    attempts = [len(raw["attempts"]) for raw in opened.evaluations.find()]
    assert set(attempts) == {1}
    assert again.spent == len(attempts)

"""A campaign as a flow of plain jobflow."""

import pytest

from godelta.makers.session import Session, use_session
from godelta.store import campaigns, rounds
from godelta.workflows.campaign_flow import CampaignFlowMaker


@pytest.fixture
def run_flow(engine, opened):
    """Run a configuration's flow in this process; the outputs of its jobs by uuid."""
    from jobflow import SETTINGS, run_locally

    use_session(Session(engine, opened))

    def run(config):
        flow = CampaignFlowMaker().make(config)
        return run_locally(flow, store=SETTINGS.JOB_STORE, ensure_success=True, log=False)

    return run


def test_run_locally(run_flow, cheap_config, opened):
    config = cheap_config(budget={"chains": 2, "rounds": 2})
    responses = run_flow(config)
    campaign = campaigns.get_campaign(opened, "cheap")
    assert campaign.state == "finished"
    own = rounds.rounds_of(opened, campaign.campaign_id)
    assert [(r.chain, r.k, r.state) for r in own] == [(c, k, "closed") for c in (0, 1) for k in (0, 1)]
    outputs = [answer.output for indices in responses.values() for answer in indices.values()]
    assert {"campaign_id": campaign.campaign_id, "name": "cheap"} in outputs
    assert campaign.spent > 0


def test_running_it_again_goes_on_with_more_rounds(run_flow, cheap_config, opened):
    run_flow(cheap_config(budget={"rounds": 1}))
    first = campaigns.get_campaign(opened, "cheap")
    run_flow(cheap_config(budget={"rounds": 2}))
    again = campaigns.get_campaign(opened, "cheap")
    assert again.campaign_id == first.campaign_id
    assert [r.state for r in rounds.rounds_of(opened, again.campaign_id)] == ["closed", "closed"]
    assert again.state == "finished"

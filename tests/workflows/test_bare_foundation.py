"""A campaign without a Δ-model: the search goes by the bare foundation."""

import pytest

from godelta.store import campaigns, rounds, structures
from godelta.store.documents import RoundKey
from godelta.workflows.planner import advance


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rss", "bh", "gofee", "rex"])
def test_no_model_is_ever_trained(start, opened, launchpad, take_jobs, method):
    campaign_id = start(
        delta={"preset": "none"}, search={"method": method}, budget={"rounds": 3, "evaluations": 6}
    )
    advance(opened, launchpad, campaign_id)
    take_jobs()
    campaign = campaigns.get_campaign(opened, campaign_id)
    assert campaign.state == "finished", campaign.reason
    assert opened.models.count_documents({}) == 0
    assert all(round_.next_model_id is None for round_ in rounds.rounds_of(opened, campaign_id))
    selected = structures.selected_structures(opened, campaign_id)
    assert selected
    assert all(one.model_energy == one.foundation_energy and one.uncertainty is None for one in selected)


@pytest.mark.slow
def test_what_was_evaluated_is_not_evaluated_again(start, opened, launchpad, take_jobs):
    """The bare foundation finds the same minima in every round, and its energies promise nothing."""
    from godelta.analysis.duplicates import distinct

    campaign_id = start(delta={"preset": "none"}, budget={"rounds": 4, "evaluations": 12})
    advance(opened, launchpad, campaign_id)
    take_jobs()
    assert rounds.get_round(opened, RoundKey(campaign_id, 0, 1)).state == "closed"
    selected = structures.selected_structures(opened, campaign_id)
    atoms = [one.atoms() for one in selected]
    assert len(distinct(atoms, len(atoms))) == len(atoms)

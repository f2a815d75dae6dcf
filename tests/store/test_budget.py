"""What is left of a budget, for planning."""

import pytest

from godelta.campaign import CampaignConfig
from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.budget import evaluations_left
from godelta.store.documents import RoundKey


@pytest.fixture
def select(store, make_structure):
    """Select structures of these numbers in a chain's first round."""

    def make(campaign, chain, *numbers):
        key = RoundKey(campaign.campaign_id, chain, 0)
        documents = [make_structure(key, number) for number in numbers]
        structures.add_candidates(store, documents)
        rounds.plan_round(store, key, None)
        rounds.change_state(store, key, 0, "planned", "searching")
        rounds.change_state(
            store, key, 0, "searching", "selected", selection=[d.structure_id for d in documents]
        )
        return documents

    return make


def config(*, share=True, chains=2, count=10):
    system = {"kind": "cluster", "formula": "Ag2S"}
    budget = {"chains": chains, "evaluations": count}
    return CampaignConfig.model_validate({"name": "a", "system": system, "share": share, "budget": budget})


def left(store, campaign, chain=0, **changes):
    return evaluations_left(store, campaign.campaign_id, config(**changes), chain)


def test_all_of_it_at_the_start(store, make_campaign):
    assert left(store, make_campaign()) == 10


def test_selected_reserved_and_spent_are_gone(store, make_campaign, select):
    campaign = make_campaign()
    documents = select(campaign, 0, 1, 2, 3)
    assert left(store, campaign) == left(store, campaign, chain=1) == 7
    key = documents[0].structure_hash
    assert campaigns.reserve_evaluation(store, campaign.campaign_id, 10, key)
    assert left(store, campaign) == 7  # the same structure: selected and reserved
    claim = evaluations.claim(store, key, campaign.reference_hash, "me", 60)
    evaluations.commit_failed(store, claim, "engine_error", "no")
    campaigns.settle_evaluation(store, campaign.campaign_id, key)
    assert left(store, campaign) == 7
    # Never below nothing, where the budget was lowered.
    assert left(store, campaign, count=2) == 0


def test_what_another_campaign_paid_for_is_free(store, make_campaign, select):
    campaign = make_campaign()
    (document,) = select(campaign, 0, 1)
    claim = evaluations.claim(store, document.structure_hash, campaign.reference_hash, "other", 60)
    evaluations.commit_ok(store, claim, -1.0, document.atoms().positions * 0)
    assert left(store, campaign) == 10


@pytest.mark.parametrize(("chains", "count", "expected"), [(2, 10, 5), (3, 10, 3)])
def test_chains_that_do_not_share_have_equal_parts(store, make_campaign, chains, count, expected):
    assert left(store, make_campaign(), share=False, chains=chains, count=count) == expected


def test_chains_that_do_not_share_depend_on_themselves_alone(store, make_campaign, select):
    campaign = make_campaign()
    (document,) = select(campaign, 0, 1)
    claim = evaluations.claim(store, document.structure_hash, campaign.reference_hash, "other", 60)
    evaluations.commit_ok(store, claim, -1.0, document.atoms().positions * 0)
    # Also what cost nothing counts: else a chain would depend on what others have evaluated.
    assert left(store, campaign, share=False) == 4
    assert left(store, campaign, share=False, chain=1) == 5


def test_a_raised_budget_is_all_there_again(store, make_campaign, select):
    campaign = make_campaign()
    select(campaign, 0, 1, 2, 3)
    key = RoundKey(campaign.campaign_id, 0, 0)
    rounds.change_state(store, key, 0, "selected", "evaluating")
    assert left(store, campaign) == 7
    # The round ends with nothing evaluated, because the budget was spent: these three wait for nobody.
    rounds.change_state(store, key, 0, "evaluating", "closed")
    assert left(store, campaign) == 10

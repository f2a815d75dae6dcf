"""A campaign goes on with the weights that it was begun with, and with no others."""

import pytest

from godelta.errors import InputError
from godelta.store import campaigns
from godelta.store.database import Store
from godelta.store.weights import CampaignWeights

FIRST, OTHER = "a" * 64, "b" * 64


def test_weights_are_recorded_at_the_start(store: Store, make_campaign) -> None:
    campaign = make_campaign("a", weights_sha256=FIRST)
    assert campaigns.get_campaign(store, "a").weights_sha256 == FIRST
    assert make_campaign("a", budget=50, weights_sha256=FIRST).campaign_id == campaign.campaign_id


def test_other_weights_are_refused_and_change_nothing(store: Store, make_campaign) -> None:
    make_campaign("a", budget=10, weights_sha256=FIRST)
    before = campaigns.get_campaign(store, "a")
    with pytest.raises(InputError) as refused:
        make_campaign("a", budget=50, weights_sha256=OTHER)
    assert f"sha256 {OTHER} here, {FIRST} then" in str(refused.value)
    assert "put the first weights back" in str(refused.value)
    assert campaigns.get_campaign(store, "a") == before


def test_a_changed_setting_is_named_before_the_weights(store: Store, make_campaign) -> None:
    make_campaign("a", seed=1, weights_sha256=FIRST)
    with pytest.raises(InputError, match="seed: 1 -> 2"):
        make_campaign("a", seed=2, weights_sha256=OTHER)


def test_a_campaign_of_before_takes_those_of_its_first_use(store: Store, make_campaign) -> None:
    campaign = make_campaign("a")
    store.campaigns.update_one({}, {"$unset": {"weights_sha256": 1}})  # as older ones are stored
    CampaignWeights(store, campaign.campaign_id).agree(FIRST)
    assert campaigns.get_campaign(store, "a").weights_sha256 == FIRST
    with pytest.raises(InputError, match="not those that the campaign was begun with"):
        CampaignWeights(store, campaign.campaign_id).agree(OTHER)
    make_campaign("b")
    assert make_campaign("b", weights_sha256=OTHER).weights_sha256 == OTHER


def test_a_worker_agrees_once(store: Store, make_campaign) -> None:
    campaign = make_campaign("a", weights_sha256=FIRST)
    weights = CampaignWeights(store, campaign.campaign_id)
    weights.agree(None)
    weights.agree(FIRST)
    with pytest.raises(InputError, match=OTHER):
        weights.agree(OTHER)

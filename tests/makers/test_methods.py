"""Every search method through all jobs of its rounds, with an empirical reference."""

import pytest

from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.documents import RoundKey

RELAX = {"steps": 15}
METHODS = {
    "bh": {"method": "bh", "walkers": 3, "iterations_per_round": 2, "relax": RELAX,
           "selection": {"evaluations_per_round": 3}},
    "gofee": {"method": "gofee", "iterations_per_round": 2, "candidates": 4, "random_until": 3,
              "relax": RELAX, "selection": {"evaluations_per_round": 3}},
    "gofee-paper": {"method": "gofee", "preset": "paper", "candidates": 4, "random_until": 2, "relax": RELAX},
    "rss-paper": {"method": "rss", "preset": "paper", "relax": RELAX, "relax_from": 3},
    "bh-paper": {"method": "bh", "preset": "paper", "relax": RELAX},
}  # fmt: skip


@pytest.fixture
def run_rounds(session, begin, run_round):
    """Run some rounds of a method; the campaign's id."""

    def run(name: str, count: int = 4, **changes) -> str:
        key = begin(name, search=METHODS[name], **changes)
        for k in range(count):
            place = RoundKey(key.campaign_id, 0, k)
            model_id = run_round(place)
            rounds.plan_round(session.store, RoundKey(key.campaign_id, 0, k + 1), model_id)
        return key.campaign_id

    return run


@pytest.mark.parametrize("name", METHODS)
def test_a_method_spends_its_budget_on_evaluations(run_rounds, opened, name):
    campaign_id = run_rounds(name)
    campaign = campaigns.get_campaign(opened, campaign_id)
    counts = evaluations.counts(opened, campaign_id, campaign.reference_hash)
    assert counts["ok"] >= 3
    assert counts["pending"] == 0
    closed = [r for r in rounds.rounds_of(opened, campaign_id) if r.state == "closed"]
    assert len(closed) == 4
    best = structures.best(opened, campaign_id, campaign.reference_hash)
    assert best[0]["energy"] < best[-1]["energy"]

"""How far a campaign is."""

from itertools import pairwise

import pytest

from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.documents import RoundKey
from godelta.store.progress import snapshot


@pytest.fixture
def campaign(store, cheap):
    values = cheap(budget={"chains": 2, "rounds": 4, "evaluations": 8})
    return campaigns.create_campaign(
        store, name="a", config=values, identity={}, identity_hash="h", reference_hash="r" * 64,
        problem=b"", versions={},
    )  # fmt: skip


def test_before_the_beginning(store, campaign):
    progress = snapshot(store, campaign.campaign_id)
    assert (progress.state, progress.formula, progress.budget, progress.rounds) == ("created", "Cu3Ag", 8, 4)
    assert (progress.ok, progress.failed, progress.pending, progress.closed_rounds) == (0, 0, 0, 0)
    assert (progress.best_energy, progress.left_s, progress.elapsed_s) == (None, None, 0.0)
    assert [(chain.chain, chain.round, chain.state) for chain in progress.chains] == [
        (0, None, "waiting"),
        (1, None, "waiting"),
    ]


def test_in_the_middle(store, campaign, make_structure):
    key = RoundKey(campaign.campaign_id, 1, 0)
    rounds.plan_round(store, key, None)
    rounds.change_state(store, key, 0, "planned", "searching")
    search = {"iteration": 7, "acceptance": [0.5, None, 0.25], "best_energy": -3.5}
    rounds.save_search_state(store, key, 0, b"state", search)
    rounds.add_timings(store, key, search_s=2.0, potential_s=1.0)
    documents = [make_structure(key, number) for number in range(3)]
    structures.add_candidates(store, documents)
    selection = [document.structure_id for document in documents]
    rounds.change_state(store, key, 0, "searching", "selected", selection=selection)
    claims = [evaluations.claim(store, d.structure_hash, "r" * 64, "me", 60, wanted=d) for d in documents]
    evaluations.commit_ok(store, claims[0], -1.25, documents[0].atoms().positions * 0)
    evaluations.commit_failed(store, claims[1], "engine_error", "no")
    campaigns.add_time(store, campaign.campaign_id, elapsed_s=10.0, worker_s=18.0)
    progress = snapshot(store, campaign.campaign_id)
    assert (progress.ok, progress.failed, progress.pending) == (1, 1, 1)
    assert progress.best_energy == -1.25
    assert (progress.elapsed_s, progress.worker_s) == (10.0, 18.0)
    assert progress.left_s == pytest.approx(30.0)  # two of eight took ten seconds
    assert progress.timings == {"search_s": 2.0, "potential_s": 1.0}
    first, second = progress.chains
    assert first.round is None
    assert (second.round, second.state, second.iteration, second.model_best) == (0, "selected", 7, -3.5)
    assert second.acceptance == pytest.approx(0.375)


def test_sums_and_the_latest_round(store, campaign):
    for k in range(2):
        key = RoundKey(campaign.campaign_id, 0, k)
        rounds.plan_round(store, key, None)
        rounds.add_timings(store, key, search_s=1.5)
        if k == 0:
            states = ("planned", "searching", "selected", "evaluating", "closed")
            for old, new in pairwise(states):
                rounds.change_state(store, key, 0, old, new)
    progress = snapshot(store, campaign.campaign_id)
    assert progress.closed_rounds == 1
    assert progress.timings == {"search_s": 3.0}
    assert (progress.chains[0].round, progress.chains[0].state) == (1, "planned")

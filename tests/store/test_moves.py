import time

import numpy as np
import pytest

from godelta.store import evaluations, rounds, structures
from godelta.store.documents import RoundKey
from godelta.store.moves import MoveRecord, move_records

LEVEL = "r" * 64


def _searching(store, campaign, k):
    key = RoundKey(campaign.campaign_id, 0, k)
    rounds.plan_round(store, key, None)
    rounds.change_state(store, key, 0, "planned", "searching")
    return key


def _evaluate(store, structure, energy):
    claim = evaluations.claim(store, structure.structure_hash, LEVEL, "test", 60.0, wanted=structure)
    assert isinstance(claim, evaluations.Claim)
    if energy is None:
        evaluations.commit_failed(store, claim, reason="scf", message="no convergence")
    else:
        evaluations.commit_ok(store, claim, energy=energy, forces=np.zeros((3, 3)))


def _count(proposed, relaxed, accepted, impossible=0):
    return {"proposed": proposed, "relaxed": relaxed, "accepted": accepted, "impossible": impossible}


def test_counts_of_steps_add_up_over_rounds(store, make_campaign):
    campaign = make_campaign()
    for k in range(2):
        key = _searching(store, campaign, k)
        for step in range(3):
            counts = {"rattle": _count(4, 3, 2), "permutation": _count(0, 0, 0, 1)}
            rounds.save_search_state(store, key, 0, b"state", {"iteration": step, "moves": counts})
        assert "moves" not in rounds.get_round(store, key).progress
    rattle, permutation = move_records(store, campaign)
    assert rattle == MoveRecord("rattle", 24, 18, 12)
    assert rattle.acceptance == 0.5
    assert permutation == MoveRecord("permutation", impossible=6)
    assert (permutation.acceptance, permutation.success) == (None, None)


def test_swaps_add_up_and_empty_rungs_count_nothing(store, make_campaign):
    key = _searching(store, make_campaign(), 0)
    for swaps in ([True, None], [], [False, True], None):
        rounds.save_search_state(store, key, 0, b"state", {} if swaps is None else {"swaps": swaps})
    found = rounds.get_round(store, key).statistics
    assert found == {"swaps": {"0": {"tried": 2, "done": 1}, "1": {"tried": 1, "done": 1}}}


def test_a_step_of_another_epoch_counts_nothing(store, make_campaign):
    key = _searching(store, make_campaign(), 0)
    with pytest.raises(rounds.Superseded):
        rounds.save_search_state(store, key, 7, b"state", {"moves": {"rattle": _count(4, 3, 2)}})
    assert rounds.get_round(store, key).statistics == {}


def test_evaluations_count_for_the_move_that_proposed_first(store, make_campaign, make_structure):
    campaign = make_campaign()
    key = _searching(store, campaign, 0)
    made = [
        make_structure(key, n, move=move)
        for n, move in enumerate(["random", "rattle", "rattle", "rattle", "random", "symmetric"])
    ]
    structures.add_candidates(store, made)
    other = make_structure(RoundKey(make_campaign("other", seed=1).campaign_id, 0, 0), 9, move="rattle")
    structures.add_candidates(store, [other])
    _evaluate(store, other, -99.0)
    # The first is no gain; a higher one, a failed one and a tie are none either.
    for structure, energy in zip(made, [-1.0, -2.0, -1.5, None, -2.0, -3.0], strict=True):
        _evaluate(store, structure, energy)
    found = {record.move: record for record in move_records(store, campaign)}
    assert found["random"] == MoveRecord("random", evaluated=2)
    assert found["rattle"] == MoveRecord("rattle", evaluated=3, failed=1, improved=1)
    assert found["symmetric"].success == 1.0
    assert set(found) == {"random", "rattle", "symmetric"}


def test_nothing_yet(store, make_campaign):
    assert move_records(store, make_campaign()) == []


@pytest.mark.slow
def test_ten_thousand_evaluations_take_a_moment(store, make_campaign, make_structure):
    campaign = make_campaign()
    key = RoundKey(campaign.campaign_id, 0, 0)
    proposals, results = [], []
    base = make_structure(key, 0).to_mongo()
    _evaluate(store, make_structure(key, 0), -1.0)
    evaluation = store.evaluations.find_one({}, {"_id": 0})
    store.evaluations.delete_many({})
    for n in range(10_000):
        name = {"structure_id": f"s{n}", "structure_hash": f"h{n}"}
        proposals.append({**base, **name, "move": ["random", "rattle"][n % 2]})
        request = {**evaluation["requests"][0], "structure_id": f"s{n}"}
        results.append({
            **evaluation, "evaluation_id": f"e{n}", "structure_hash": f"h{n}", "energy": -float(n),
            "requests": [request],
        })  # fmt: skip
    store.structures.insert_many(proposals)
    store.evaluations.insert_many(results)
    begun = time.perf_counter()
    random, rattle = sorted(move_records(store, campaign), key=lambda record: record.move)
    assert time.perf_counter() - begun < 5.0
    assert (random.evaluated, rattle.evaluated) == (5000, 5000)

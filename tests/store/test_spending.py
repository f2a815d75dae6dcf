"""What evaluations had cost when they ended."""

import pytest

from godelta.store import campaigns, evaluations, rounds, structures
from godelta.store.documents import RoundKey
from godelta.store.spending import EvaluationCost, evaluation_cost, spending

REFERENCE = "r" * 64


@pytest.fixture
def create(store, cheap):
    def create(name):
        return campaigns.create_campaign(
            store, name=name, config=cheap(), identity={}, identity_hash="h", reference_hash=REFERENCE,
            problem=b"", versions={},
        ).campaign_id  # fmt: skip

    return create


@pytest.fixture
def do_round(store):
    def do_round(campaign_id, k, documents, outcomes, **timings):
        """A whole round; the outcomes are energy and cost, the energy None for a failure."""
        key = RoundKey(campaign_id, 0, k)
        rounds.plan_round(store, key, None)
        rounds.change_state(store, key, 0, "planned", "searching")
        rounds.add_timings(store, key, **timings)
        structures.add_candidates(store, documents)
        selection = [document.structure_id for document in documents]
        rounds.change_state(store, key, 0, "searching", "selected", selection=selection)
        rounds.change_state(store, key, 0, "selected", "evaluating")
        for document, (energy, cost) in zip(documents, outcomes, strict=True):
            claim = evaluations.claim(store, document.structure_hash, REFERENCE, "me", 60, wanted=document)
            if not isinstance(claim, evaluations.Claim):
                continue  # somebody has evaluated it
            if energy is None:
                evaluations.commit_failed(store, claim, "engine_error", "no", cost={"cpu_s": cost})
            else:
                forces = document.atoms().positions * 0
                evaluations.commit_ok(store, claim, energy, forces, {"cpu_s": cost})
        rounds.change_state(store, key, 0, "evaluating", "closed")

    return do_round


def test_searches_trainings_and_evaluations_add_up(store, create, do_round, make_structure):
    mine = create("a")
    first = [make_structure(RoundKey(mine, 0, 0), number) for number in range(2)]
    last = [make_structure(RoundKey(mine, 0, 1), 2)]
    do_round(mine, 0, first, [(-1.0, 2.0), (None, 3.0)], search_cpu_s=10.0, search_s=99.0, training_cpu_s=5.0)
    do_round(mine, 1, last, [(-2.0, 4.0)], loading_s=1.0, search_s=6.0, training_s=8.0)  # an older round
    spent = spending(store, mine, REFERENCE)
    assert spent.energies == (-1.0, None, -2.0)
    assert spent.cpu_s == (12.0, 15.0, 10 + 2 + 3 + 5 + 7 + 4)
    assert spent.total_cpu_s == 31 + 8
    assert evaluation_cost(store, mine, REFERENCE) == EvaluationCost(attempts=3, wall_s=0.0, cpu_s=9.0)
    assert evaluation_cost(store, "nobody", REFERENCE) == EvaluationCost(0, 0.0, 0.0)


def test_rounds_within_one_millisecond_keep_their_order(store, create, do_round, make_structure):
    mine = create("a")
    for k in range(2):
        documents = [make_structure(RoundKey(mine, 0, k), k)]
        do_round(mine, k, documents, [(-1.0 - k, 1.0)], search_cpu_s=10.0, training_cpu_s=100.0)
    now = store.evaluations.find_one()["evaluated_at"]
    store.evaluations.update_many({}, {"$set": {"evaluated_at": now}})
    store.rounds.update_many({}, {"$set": {"selected_at": now, "changed_at": now}})
    spent = spending(store, mine, REFERENCE)
    assert spent.energies == (-1.0, -2.0)
    assert spent.cpu_s == (11.0, 10 + 1 + 100 + 10 + 1)


def test_what_another_campaign_evaluated_costs_the_same(store, create, do_round, make_structure):
    mine, other = create("a"), create("b")
    do_round(mine, 0, [make_structure(RoundKey(mine, 0, 0), 0)], [(-1.0, 2.0)], search_cpu_s=10.0)
    do_round(other, 0, [make_structure(RoundKey(other, 0, 0), 1)], [(-3.0, 1.0)], search_cpu_s=20.0)
    do_round(other, 1, [make_structure(RoundKey(other, 0, 1), 0)], [(-9.0, 9.0)], search_cpu_s=30.0)
    spent = spending(store, other, REFERENCE)
    assert spent.energies == (-3.0, -1.0)  # in the order in which this campaign had them
    assert spent.cpu_s == (21.0, 20 + 1 + 30 + 2)


def test_what_stood_for_rounds_before_it_was_selected_counts_from_then(
    store, create, do_round, make_structure
):
    mine, other = create("a"), create("b")
    do_round(mine, 0, [make_structure(RoundKey(mine, 0, 0), 0)], [(-1.0, 2.0)], search_cpu_s=10.0)
    do_round(other, 0, [make_structure(RoundKey(other, 0, 0), 1)], [(-3.0, 1.0)], search_cpu_s=20.0)
    proposed_first = make_structure(RoundKey(other, 0, 0), 0)
    do_round(other, 1, [proposed_first], [(-9.0, 9.0)], search_cpu_s=30.0)
    assert spending(store, other, REFERENCE).energies == (-3.0, -1.0)


def test_nothing_yet(store, create):
    assert spending(store, create("a"), REFERENCE) == spending(store, "unknown", REFERENCE)

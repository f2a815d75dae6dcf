"""The selection job: no duplicates, nothing twice, never more than the budget."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms

from godelta.delta.covariance import VirtualObservations
from godelta.delta.explain import environments_of
from godelta.makers.evaluate import run_evaluate
from godelta.makers.retrain import run_retrain
from godelta.makers.search import run_search
from godelta.makers.select import run_select
from godelta.makers.told import evaluated
from godelta.reference.registry import reference_hash
from godelta.search import make_method
from godelta.store import campaigns, evaluations, models, rounds, structures
from godelta.store.documents import RoundKey, StructureDocument, structure_hash

SQUARE = np.array([[0.0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [2.5, 2.5, 0.3]]) + 5.0
ROW = np.array([[0.0, 0, 0], [0, 0, 2.5], [0, 0, 5.0], [0.4, 0, 7.5]]) + 2.0
PYRAMID = np.array([[0.0, 0, 0], [2.5, 0, 0], [1.2, 2.2, 0], [1.3, 0.8, 2.1]]) + 5.0
BENT = np.array([[0.0, 0, 0], [2.5, 0, 0], [5.0, 0, 0], [5.2, 2.5, 0]]) + 3.0


@pytest.fixture
def propose(opened) -> Callable[..., list[str]]:
    """Put candidates into a round that is searching; their structure ids."""

    def make(key: RoundKey, shapes: Sequence[np.ndarray], energies: Sequence[float], **fields: object):
        documents = [
            StructureDocument.from_atoms(
                Atoms("AgCu3", positions, cell=np.eye(3) * 14.0),
                campaign_id=key.campaign_id,
                chain=key.chain,
                round=key.k,
                foundation_energy=energy,
                model_energy=energy,
                **fields,
            )
            for positions, energy in zip(shapes, energies, strict=True)
        ]
        structures.add_candidates(opened, documents)
        rounds.change_state(opened, key, 0, "planned", "searching")
        return [document.structure_id for document in documents]

    return make


def turned(positions: np.ndarray) -> np.ndarray:
    """The same cluster, turned by 90 degrees about z."""
    centre = positions.mean(axis=0)
    return (positions - centre) @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + centre


def test_lowest_first_and_one_of_each_kind(session, begin, propose):
    key = begin(search={"selection": {"evaluations_per_round": 3}})
    ids = propose(key, [ROW, SQUARE, turned(SQUARE), PYRAMID, BENT], [4.0, 2.0, 2.0, 1.0, 9.0])
    assert run_select(session, key, 0) == {"status": "selected", "candidates": 5, "selected": 3}
    pyramid, square, row = rounds.get_round(session.store, key).selection
    assert (pyramid, row) == (ids[3], ids[0])
    assert square in (ids[1], ids[2])


def test_what_was_selected_before_is_not_selected_again(session, begin, propose, opened):
    first = begin(search={"selection": {"evaluations_per_round": 3}})
    old = propose(first, [SQUARE, PYRAMID], [2.0, 1.0])
    run_select(session, first, 0)
    second = RoundKey(first.campaign_id, 0, 1)
    rounds.plan_round(opened, second, None)
    ids = propose(second, [SQUARE, turned(SQUARE), PYRAMID + 0.003, ROW], [2.0, 2.0, 1.0, 7.0])
    run_select(session, second, 0)
    new, *late = rounds.get_round(opened, second).selection
    assert (new, sorted(late)) == (ids[3], sorted(old))  # the old ones are still to be evaluated


@pytest.fixture
def fail(session, opened):
    """Have the evaluations of structures fail."""

    def make(key: RoundKey, *ids: str) -> None:
        level = reference_hash(session.parts(key.campaign_id).config.reference)
        for document in structures.get_structures(opened, ids):
            claim = evaluations.claim(opened, document.structure_hash, level, owner="test", seconds=60.0)
            evaluations.commit_failed(opened, claim, "not_converged", "no luck")

    return make


def test_nothing_equivalent_to_a_failure_is_selected_whatever_it_promises(
    session, begin, propose, opened, fail
):
    first = begin(search={"selection": {"evaluations_per_round": 3}})
    failing = propose(first, [SQUARE, PYRAMID], [2.0, 1.0])
    run_select(session, first, 0)
    fail(first, *failing)
    second = RoundKey(first.campaign_id, 0, 1)
    rounds.plan_round(opened, second, None)
    ids = propose(second, [turned(SQUARE) + 0.01, PYRAMID * 1.01, ROW], [-50.0, -90.0, 7.0])
    run_select(session, second, 0)
    assert list(rounds.get_round(opened, second).selection) == [ids[2]]


def test_a_neighbour_of_a_failure_that_belongs_to_a_good_structure(session, begin, propose, opened, fail):
    key = begin(search={"selection": {"evaluations_per_round": 1}})
    chain = [BENT, BENT * 1.015, BENT * 1.03]  # each within the tolerance of the next, the ends are not
    for k, (positions, energy) in enumerate(zip(chain, (3.0, 1.0, -1.0), strict=True)):
        place = RoundKey(key.campaign_id, 0, k)
        if k:
            rounds.plan_round(opened, place, None)
        (name,) = propose(place, [positions], [energy])
        assert run_select(session, place, 0)["selected"] == (k < 2)
        if k == 0:
            level = reference_hash(session.parts(key.campaign_id).config.reference)
            digest = structures.get_structure(opened, name).structure_hash
            claim = evaluations.claim(opened, digest, level, owner="test", seconds=60.0)
            evaluations.commit_ok(opened, claim, 5.0, np.zeros((4, 3)), {})
        elif k == 1:
            fail(place, name)


def test_two_of_a_kind_in_one_round_are_one_even_where_energies_differ(session, begin, propose, opened):
    key = begin(search={"selection": {"evaluations_per_round": 3}})
    ids = propose(key, [SQUARE, turned(SQUARE) + 0.01, ROW], [2.0, 1.0, 7.0])
    run_select(session, key, 0)
    assert list(rounds.get_round(opened, key).selection) == [ids[1], ids[2]]


@pytest.fixture
def evaluate(session, opened):
    """Give a structure a reference energy in eV."""

    def evaluate(key, structure_id, energy):
        level = reference_hash(session.parts(key.campaign_id).config.reference)
        digest = structures.get_structure(opened, structure_id).structure_hash
        claim = evaluations.claim(opened, digest, level, owner="test", seconds=60.0)
        evaluations.commit_ok(opened, claim, energy, np.zeros((4, 3)), {})

    return evaluate


@pytest.mark.parametrize("uncertainty", [0.001, 2.0])  # which says nothing of the minimum next door
@pytest.mark.parametrize(("energy", "again"), [(0.9, True), (0.99, False), (1.0, False), (1.3, False)])
def test_a_better_version_of_an_evaluated_structure_is_welcome(
    session, begin, propose, opened, evaluate, energy, again, uncertainty
):
    first = begin(search={"selection": {"evaluations_per_round": 3}})
    (old,) = propose(first, [PYRAMID], [3.0])
    run_select(session, first, 0)
    evaluate(first, old, 1.0)
    second = RoundKey(first.campaign_id, 0, 1)
    rounds.plan_round(opened, second, None)
    (new,) = propose(
        second, [PYRAMID * 1.01], [energy], uncertainty=uncertainty
    )  # within 0.1 Å of the old one
    run_select(session, second, 0)
    assert list(rounds.get_round(opened, second).selection) == ([new] if again else [])


@pytest.mark.parametrize(("second", "again"), [(0.9, True), (0.99, False), (1.2, False)])
def test_a_promise_that_was_broken_is_not_believed_again(
    session, begin, propose, opened, evaluate, second, again
):
    key = begin(search={"selection": {"evaluations_per_round": 3}})
    for energy, promise in ((1.0, 3.0), (second, 0.8), (None, 0.7)):
        (one,) = propose(key, [PYRAMID * (1.0 + 0.002 * key.k)], [promise])
        run_select(session, key, 0)
        chosen = list(rounds.get_round(opened, key).selection)
        if energy is None:
            break
        assert chosen == [one]
        evaluate(key, one, energy)
        key = RoundKey(key.campaign_id, 0, key.k + 1)
        rounds.plan_round(opened, key, None)
    assert chosen == ([one] if again else [])


def test_a_step_down_is_no_broken_promise(session, begin, propose, opened, evaluate):
    key = begin(search={"method": "gofee", "follow_up": True})
    for k, (energy, promise, move) in enumerate(((1.0, 3.0, ""), (0.99, 1.0, "step"), (None, 0.8, ""))):
        key = RoundKey(key.campaign_id, 0, k)
        if k:
            rounds.plan_round(opened, key, None)
        (one,) = propose(key, [PYRAMID * (1.0 + 0.002 * k)], [promise], move=move)
        run_select(session, key, 0)
        assert one in rounds.get_round(opened, key).selection
        if energy is not None:
            evaluate(key, one, energy)


def test_a_walker_has_the_energy_of_any_evaluated_twin(session, begin, propose, opened, evaluate):
    """Of four versions each is like the next ones only; the middle two were evaluated."""
    key = begin(search={"selection": {"evaluations_per_round": 3}})
    for k, (energy, promise) in enumerate(((1.0, 3.0), (0.4, 0.5))):
        key = RoundKey(key.campaign_id, 0, k)
        if k:
            rounds.plan_round(opened, key, None)
        (one,) = propose(key, [PYRAMID * (1.0 + 0.04 * k)], [promise])
        run_select(session, key, 0)
        evaluate(key, one, energy)
    walkers = []
    for name, factor in (("first", 0.96), ("last", 1.08)):
        atoms = structures.get_structure(opened, one).atoms()
        atoms.positions = PYRAMID * factor
        walkers.append(SimpleNamespace(id=name, atoms=atoms))
    energies = {name: item.energy for item in evaluated(session, key, walkers) for name in item.names}
    assert (energies["first"], energies["last"]) == (1.0, 0.4)


def test_what_is_like_a_step_of_the_same_round_waits_for_it(session, begin, propose, opened):
    key = begin(search={"method": "gofee", "follow_up": True})
    (step,) = propose(key, [PYRAMID], [1.0], move="step")
    propose_more(opened, key, PYRAMID * 1.01, 0.5, 0.1)
    (other,) = propose_more(opened, key, SQUARE, 2.0, 0.1)
    run_select(session, key, 0)
    assert list(rounds.get_round(opened, key).selection) == [step, other]


def test_a_round_tells_why_candidates_are_refused(session, begin, propose, opened, evaluate, fail):
    first = begin(search={"selection": {"evaluations_per_round": 2}})
    known, bad = propose(first, [PYRAMID, ROW], [1.0, 2.0])
    run_select(session, first, 0)
    assert rounds.get_round(opened, first).statistics["refused"] == {}
    evaluate(first, known, 1.0)
    fail(first, bad)
    second = RoundKey(first.campaign_id, 0, 1)
    rounds.plan_round(opened, second, None)
    propose(second, [turned(PYRAMID), PYRAMID * 1.001, SQUARE], [1.0, 1.2, 2.0])
    propose_more(opened, second, turned(SQUARE), 2.5, 0.1)
    run_select(session, second, 0)
    assert rounds.get_round(opened, second).statistics["refused"] == {
        "equivalent to a selected structure": 2,
        "equivalent to another candidate or to one that failed": 1,
    }


def test_what_the_kernel_cannot_express_promises_nothing(session, begin, propose, opened):
    """A deviation of 0.15 eV per root of an atom, 0.3 eV for four, is there however often one evaluates."""
    first = begin(search={"selection": {"evaluations_per_round": 3}})
    model = models.save_model(
        opened, first.campaign_id, ["x"], "settings", b"blob", hyperparameters={"discrepancy": 0.15}
    )
    second = RoundKey(first.campaign_id, 0, 1)
    rounds.plan_round(opened, second, model.model_id)
    (known,) = propose(second, [PYRAMID], [1.0], uncertainty=0.3)
    (unknown,) = propose_more(opened, second, SQUARE, 1.3, 0.4)
    run_select(session, second, 0)
    # 1.3 eV less 2 x 0.26 eV comes before 1.0 eV less nothing; with the whole deviations it would come after.
    assert list(rounds.get_round(opened, second).selection) == [unknown, known]


def propose_more(opened, key, positions, energy, uncertainty):
    """One more candidate of a round that is searching."""
    document = StructureDocument.from_atoms(
        Atoms("AgCu3", positions, cell=np.eye(3) * 14.0), campaign_id=key.campaign_id, chain=key.chain,
        round=key.k, foundation_energy=energy, model_energy=energy, uncertainty=uncertainty,
    )  # fmt: skip
    structures.add_candidates(opened, [document])
    return [document.structure_id]


@pytest.mark.parametrize(("share", "expected"), [(True, 0), (False, 1)])
def test_what_another_chain_selected(session, begin, propose, opened, share, expected):
    first = begin(share=share, budget={"chains": 2})
    propose(first, [SQUARE], [2.0])
    run_select(session, first, 0)
    other = RoundKey(first.campaign_id, 1, 0)
    propose(other, [turned(SQUARE)], [2.0])
    run_select(session, other, 0)
    assert len(rounds.get_round(opened, other).selection) == expected


@pytest.mark.parametrize(("spent", "selected"), [(0, 2), (9, 1), (10, 0)])
def test_never_more_than_the_budget_has_left(session, begin, propose, opened, spent, selected):
    key = begin()
    for number in range(spent):
        campaigns.reserve_evaluation(opened, key.campaign_id, 10, str(number))
        campaigns.settle_evaluation(opened, key.campaign_id, str(number))
    propose(key, [SQUARE, ROW, PYRAMID], [1.0, 2.0, 3.0])
    assert run_select(session, key, 0)["selected"] == selected


def test_at_random_walkers_only(session, begin, opened):
    search = {"selection": {"choose": "random", "evaluations_per_round": 3}, "iterations_per_round": 6}
    for seed in range(3):
        key = begin(f"random-{seed}", rex=True, seed=seed, search=search)
        run_search(session, key, 0)
        run_select(session, key, 0)
        parts = session.parts(key.campaign_id)
        method = make_method(parts.config.search, parts.problem)
        state = method.load(rounds.load_search_state(opened, key))
        walkers = {structure_hash(walker.atoms) for walker in method.walkers(state)}
        chosen = structures.get_structures(opened, rounds.get_round(opened, key).selection)
        assert chosen
        assert {document.structure_hash for document in chosen} <= walkers


def test_places_that_walkers_leave_are_for_others(session, begin, propose, opened, evaluate, monkeypatch):
    """All walkers stand on what is known: a round without an evaluation would teach nothing."""
    search = {"selection": {"choose": "walkers", "evaluations_per_round": 2}}
    first = begin(search=search)
    (known,) = propose(first, [SQUARE], [1.0])
    run_select(session, first, 0)
    evaluate(first, known, 1.0)
    second = RoundKey(first.campaign_id, 0, 1)
    rounds.plan_round(opened, second, None)
    ids = propose(second, [turned(SQUARE), ROW, PYRAMID, BENT], [1.0, 2.0, 3.0, 4.0])
    on = structures.get_structures(opened, [ids[0], ids[2]])  # one on what is known, one on something new
    monkeypatch.setattr(
        "godelta.makers.select._by_preference",
        lambda session, key, candidates: (
            [c for c in candidates if c.structure_id in {one.structure_id for one in on}],
            [c for c in candidates if c.structure_id not in {one.structure_id for one in on}],
        ),
    )
    run_select(session, second, 0)
    assert list(rounds.get_round(opened, second).selection) == [ids[2], ids[1]]


@pytest.mark.parametrize(("choose", "only"), [("walkers", False), ("random", True)])
def test_walkers_first_or_alone(session, begin, opened, choose, only):
    search = {"selection": {"choose": choose, "evaluations_per_round": 10}, "iterations_per_round": 4}
    key = begin(rex=True, search=search)
    run_search(session, key, 0)
    run_select(session, key, 0)
    parts = session.parts(key.campaign_id)
    method = make_method(parts.config.search, parts.problem)
    walkers = method.walkers(method.load(rounds.load_search_state(opened, key)))
    on = {structure_hash(walker.atoms) for walker in walkers}
    selection = rounds.get_round(opened, key).selection
    found = {one.structure_id: one.structure_hash for one in structures.get_structures(opened, selection)}
    first = [found[i] in on for i in selection]
    assert first == sorted(first, reverse=True)
    assert first[0]
    assert all(first) == only


def test_the_same_seed_selects_the_same(session, begin, opened):
    picks = []
    for name in ("a", "b"):
        key = begin(name, rex=True, search={"selection": {"choose": "random"}})
        run_search(session, key, 0)
        run_select(session, key, 0)
        selection = rounds.get_round(opened, key).selection
        picks.append([structures.get_structure(opened, i).structure_hash for i in selection])
    assert picks[0] == picks[1]


def test_nothing_to_select(session, begin, propose, opened):
    key = begin()
    propose(key, [], [])
    assert run_select(session, key, 0) == {"status": "selected", "candidates": 0, "selected": 0}


def test_a_second_call_and_an_old_epoch_change_nothing(session, begin, propose, opened):
    key = begin()
    propose(key, [SQUARE], [1.0])
    rounds.bump_epoch(opened, key, 0)
    rounds.change_state(opened, key, 1, "planned", "searching")
    assert run_select(session, key, 0) == {"status": "superseded"}
    assert rounds.get_round(opened, key).selection == ()
    assert run_select(session, key, 1)["selected"] == 1
    before = rounds.get_round(opened, key)
    assert run_select(session, key, 1) == {"status": "done before"}
    assert rounds.get_round(opened, key) == before


@pytest.mark.parametrize("choose", ["acquisition", "expected_improvement"])
def test_a_diverse_round_does_not_ask_the_same_thing_twice(session, begin, opened, choose):
    """After one round with a model: what is chosen lowers the uncertainty of the others as it is taken."""
    selection = {"evaluations_per_round": 3, "diverse": True, "choose": choose}
    first = begin(search={"selection": selection})
    run_search(session, first, 0)
    run_select(session, first, 0)
    for slot in range(3):
        run_evaluate(session, first, 0, slot)
    model_id = run_retrain(session, first, 0)["model_id"]
    second = RoundKey(first.campaign_id, 0, 1)
    rounds.plan_round(opened, second, model_id)
    run_search(session, second, 0)
    run_select(session, second, 0)
    chosen = list(rounds.get_round(opened, second).selection)
    assert 1 <= len(chosen) <= 3
    candidates = {c.structure_id: c for c in structures.round_candidates(opened, second)}
    correction = session.learnt(model_id).correction
    virtual = VirtualObservations(
        correction, [environments_of(correction, None, candidates[name].atoms()) for name in chosen]
    )
    told = [candidates[name].uncertainty for name in chosen]
    np.testing.assert_allclose(virtual.totals, told, rtol=1e-6)

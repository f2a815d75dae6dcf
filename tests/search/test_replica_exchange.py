from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.emt import EMT

from godelta.foundation.base import PotentialBatch
from godelta.search import make_method
from godelta.search.replica_exchange import metropolis_probability, swap_probability
from godelta.search.rex_state import HISTORY, REXState
from godelta.search.settings import RelaxSettings, REXSettings

FAST = RelaxSettings(steps=5, fmax=0.05)


def _method(cluster, formula="Cu3Ag", **keys):
    return make_method(
        REXSettings(**{"walkers": 4, "relax": FAST, "swap_every": 3, "permutations": 0.0, **keys}),
        cluster(formula),
    )


class Flat:
    """A potential with the same energy everywhere, so that every move is accepted."""

    def __init__(self, energy=0.0):
        self.energy = energy

    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        e = np.full(len(structures), self.energy)
        return PotentialBatch(e, [np.zeros((len(a), 3)) for a in structures], e - 1.0, e * 0 + 0.1)


def test_metropolis_keeps_the_boltzmann_distribution():
    kT = 0.3
    for a, b in [(0.0, 0.4), (-2.0, -1.9), (1.0, 1.0)]:
        flow = np.exp(-a / kT) * metropolis_probability(b, a, kT)
        assert flow == pytest.approx(np.exp(-b / kT) * metropolis_probability(a, b, kT))
    assert metropolis_probability(-1.0, 0.0, kT) == 1.0
    assert metropolis_probability(1e6, 0.0, 1e-3) == 0.0


def test_swaps_keep_the_product_of_both_distributions():
    kTs = (0.1, 0.5)

    def weight(cold, hot):
        return np.exp(-cold / kTs[0] - hot / kTs[1])

    for a, b in [(0.0, 0.2), (-0.3, -0.1), (0.4, 0.1)]:
        flow = weight(a, b) * swap_probability((a, b), kTs)
        assert flow == pytest.approx(weight(b, a) * swap_probability((b, a), kTs))
    assert swap_probability((1.0, 0.0), kTs) == 1.0  # the colder rung gets the lower energy for certain
    assert swap_probability((0.0, 0.1), kTs) == pytest.approx(np.exp(-(10 - 2) * 0.1))


def test_a_sweep_sorts_what_is_far_apart_and_keeps_the_rungs_amplitudes(cluster):
    method = _method(cluster, swap_every=1, adaptive=False, kT_min=1e-4, kT_max=2e-4)
    state = method.start(Flat(), np.random.default_rng(0))
    state = method.step(state, Flat()).state
    energies = [3.0, 2.0, 1.0, 0.0]
    walkers = [replace(w, energy=e) for w, e in zip(state.walkers, energies, strict=True)]
    swaps = method._swap(walkers, np.random.default_rng(0))
    # One sweep from the coldest pair up carries the highest energy to the top.
    assert swaps == (True, True, True)
    assert [w.energy for w in walkers] == [2.0, 1.0, 0.0, 3.0]
    assert method._swap(walkers[:2], np.random.default_rng(0)) == (True,)


def test_ladders(cluster):
    method = _method(cluster, walkers=5, kT_min=0.02, kT_max=2.0, amplitude_min=0.1, amplitude_max=4.1)
    np.testing.assert_allclose(method.ladder[1:] / method.ladder[:-1], 100 ** (1 / 4))
    state = method.start(Flat(), np.random.default_rng(0))
    np.testing.assert_allclose(np.diff(state.amplitudes), 1.0)
    assert (method.ladder[0], method.ladder[-1]) == (pytest.approx(0.02), pytest.approx(2.0))


def test_the_top_rung_is_always_random_and_all_others_rattle(cluster):
    method = _method(cluster, iterations_per_round=6)
    potential = Flat()
    state = method.start(potential, np.random.default_rng(0))
    result = method.step(state, potential)
    assert [c.move for c in result.candidates] == ["random"] * 4
    previous = {c.id for c in result.candidates}
    for _ in range(5):
        held = [w.id for w in result.state.walkers]
        result = method.step(result.state, potential)
        assert [c.move for c in result.candidates] == ["rattle"] * 3 + ["random"]
        assert [c.parents for c in result.candidates] == [(i,) for i in held[:3]] + [()]
        assert not previous & {c.id for c in result.candidates}
        assert result.candidates[-1].accepted
        previous |= {c.id for c in result.candidates}
    assert method.finished(result.state)


@pytest.mark.parametrize(("energies", "factor"), [("falling", 1.01), ("rising", 0.99)])
def test_amplitudes_follow_the_acceptance_of_the_last_ten(cluster, energies, factor):
    method = _method(cluster, swap_every=1000, kT_min=1e-3, kT_max=2e-3, amplitude_max=4.99)
    state = method.start(Flat(), np.random.default_rng(0))
    first = state.amplitudes
    for k in range(HISTORY + 4):
        potential = Flat(-100.0 * k if energies == "falling" else 100.0 * k)
        result = method.step(state, potential)
        state = result.state
        # Rattles begin in iteration 2; the tenth of them is the first that changes anything.
        changes = max(0, k - HISTORY + 1)
        np.testing.assert_allclose(state.amplitudes[:-1], np.clip(first * factor**changes, 0.01, 5.0)[:-1])
        assert state.amplitudes[-1] == first[-1]
    assert result.statistics.acceptance == ((1.0,) * 3 if energies == "falling" else (0.0,) * 3) + (None,)


def test_amplitudes_that_begin_outside_of_their_range_do_not_jump(cluster):
    method = _method(cluster, amplitude_min=0.004, amplitude_max=8.0)
    start = method.start(Flat(), np.random.default_rng(0)).amplitudes
    # The coldest rung falls and the hottest one rises, both out of what they began with: they stay.
    verdicts = np.repeat([0, 0, 1, 1], HISTORY).reshape(4, HISTORY)
    adapted = method._adapted(start, verdicts)
    np.testing.assert_allclose(adapted, [start[0], 0.99 * start[1], 1.01 * start[2], start[3]])
    np.testing.assert_allclose(method._adapted(start, 1 - verdicts)[[0, 3]], [1.01 * start[0], 0.99 * 8.0])
    usual = _method(cluster)._adapted(np.array([0.01, 1.0, 4.0, 5.0]), verdicts)
    np.testing.assert_allclose(usual, [0.01, 0.99, 4.04, 5.0])


def test_all_walkers_of_an_iteration_share_their_calls(cluster, from_calculator):
    potential = from_calculator(EMT())
    method = _method(cluster)
    result = method.step(method.start(potential, np.random.default_rng(0)), potential)
    assert potential.sizes[0] == 4
    assert len(potential.sizes) == result.statistics.calls <= FAST.steps + 1
    assert sum(potential.sizes) == result.statistics.evaluations


def test_every_step_resumes_bit_for_bit(cluster, from_calculator):
    method = _method(cluster, iterations_per_round=7)
    straight = resumed = method.start(from_calculator(EMT()), np.random.default_rng(3))
    for round_ in range(2):
        while not method.finished(straight):
            one = method.step(straight, from_calculator(EMT()))
            two = method.step(method.load(resumed.to_bytes()), from_calculator(EMT()))
            assert one.state.to_bytes() == two.state.to_bytes()
            assert one.statistics == two.statistics
            for a, b in zip(one.candidates, two.candidates, strict=True):
                assert (a.id, a.energy, a.accepted, a.parents) == (b.id, b.energy, b.accepted, b.parents)
                np.testing.assert_array_equal(a.atoms.positions, b.atoms.positions)
            straight, resumed = one.state, two.state
        rng = np.random.default_rng(10 + round_)
        straight = method.next_round(straight, from_calculator(EMT(), offset=1.0), rng)
        resumed = method.load(straight.to_bytes())


def test_a_new_round_predicts_the_walkers_anew_and_proposes_them_again(cluster):
    method = _method(cluster, iterations_per_round=2)
    state = method.start(Flat(), np.random.default_rng(0))
    while not method.finished(state):
        state = method.step(state, Flat(0.0)).state
    held = [w.id for w in state.walkers]
    state = method.next_round(state, Flat(-7.0), np.random.default_rng(1))
    assert not method.finished(state)
    assert [w.energy for w in state.walkers] == [-7.0] * 4
    assert [w.foundation_energy for w in state.walkers] == [-8.0] * 4
    candidates = method.step(state, Flat(-7.0)).candidates
    assert [c.id for c in candidates[:4]] == held
    assert len(candidates) == 8
    assert [c.id for c in method.walkers(state)] == held


class Broken:
    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        e = np.full(len(structures), np.nan)
        return PotentialBatch(e, [np.zeros((len(a), 3)) for a in structures], e, e)


def test_dropped_structures_are_counted_and_never_walkers(cluster):
    method = _method(cluster, swap_every=1)
    state = method.start(Flat(), np.random.default_rng(0))
    result = method.step(state, Broken())
    assert result.candidates == []
    assert result.statistics.best_energy is None
    assert result.statistics.dropped == {"energy or forces are not finite": 4}
    assert result.statistics.swaps == (None,) * 3
    assert result.state.walkers == (None,) * 4
    state = method.load(result.state.to_bytes())
    filled = method.step(state, Flat()).state
    kept = method.step(filled, Broken())
    assert {w.id for w in kept.state.walkers} == {w.id for w in filled.walkers}  # swapped at most
    assert kept.state.history[:3, -1].tolist() == [0, 0, 0]


def test_a_state_that_does_not_fit_is_refused(cluster):
    method = _method(cluster)
    state = method.step(method.start(Flat(), np.random.default_rng(0)), Flat()).state
    with pytest.raises(ValueError, match="does not fit"):
        _method(cluster, formula="Cu4Ag").load(state.to_bytes())
    with pytest.raises(ValueError, match="does not fit"):
        _method(cluster, walkers=5).load(state.to_bytes())
    assert isinstance(REXState.from_bytes(state.to_bytes()), REXState)


@pytest.mark.slow
def test_it_finds_the_lennard_jones_icosahedron(cluster, from_calculator, lennard_jones):
    settings = REXSettings(
        walkers=6, iterations_per_round=60, kT_min=0.1, kT_max=3.0, relax=RelaxSettings(steps=200, fmax=0.01)
    )
    method = make_method(settings, cluster("Ar13", edge=8.0))
    potential = from_calculator(lennard_jones)
    state = method.start(potential, np.random.default_rng(0))
    best = np.inf
    while not method.finished(state) and best > -44.3:
        result = method.step(state, potential)
        state, best = result.state, min(best, result.statistics.best_energy)
    assert best == pytest.approx(-44.326801, abs=2e-3)  # Cambridge Cluster Database


def test_permutations_come_at_their_rate_and_leave_the_amplitudes_alone(cluster):
    method = _method(cluster, "Cu3Ag", permutations=1.0)
    state = method.start(Flat(), np.random.default_rng(0))
    state = method.step(state, Flat()).state
    moves = []
    for _ in range(2 * HISTORY):
        result = method.step(state, Flat())
        state = result.state
        moves += [c.move for c in result.candidates if c.move != "random"]
    assert moves.count("permutation") > moves.count("rattle")
    assert REXSettings(preset="paper").permutations == 0.0
    assert (state.history[:-1] >= 0).sum() == min(moves.count("rattle"), state.history[:-1].size)

from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.emt import EMT

from godelta.foundation.base import PotentialBatch
from godelta.search import make_method
from godelta.search.basin_hopping import LOST, NOT_EVALUATED, REJECTED
from godelta.search.rex_state import Walker
from godelta.search.settings import BHSettings, RelaxSettings
from godelta.search.state import Evaluated, InformedMethod

FAST = RelaxSettings(steps=5, fmax=0.05)


def _method(cluster, formula="Cu3Ag", **keys):
    return make_method(BHSettings(**{"walkers": 3, "relax": FAST, **keys}), cluster(formula))


class Flat:
    """The same energy everywhere."""

    def __init__(self, energy=0.0):
        self.energy = energy

    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        e = np.full(len(structures), self.energy)
        return PotentialBatch(e, [np.zeros((len(a), 3)) for a in structures], e - 1.0, e * 0 + 0.1)


def evaluated(method, state, energies, *, only=None):
    """The walkers' trials with these reference energies in eV."""
    return [
        Evaluated((c.id,), c.atoms.positions, energy, np.zeros((len(c.atoms), 3)))
        for c, energy in zip(method.walkers(state), energies, strict=True)
        if only is None or c.walker in only
    ]


def after_a_round(method, seed=0, potential=None):
    state = method.start(potential or Flat(), np.random.default_rng(seed))
    while not method.finished(state):
        state = method.step(state, potential or Flat()).state
    return state


def next_round(method, state, told, seed=1, potential=None):
    potential = potential or Flat()
    return method.inform(method.next_round(state, potential, np.random.default_rng(seed)), told, potential)


@pytest.mark.parametrize("energies", [(0.0, 0.2), (0.3, 0.0, 0.1)])
def test_hops_alone_sample_the_boltzmann_distribution(cluster, energies):
    """A landscape of two or three states, each other one proposed equally often, nothing relaxed."""
    walkers, steps, kT = 60, 1200, 0.25
    method = _method(cluster, "Ag", walkers=walkers, kT=kT)
    assert isinstance(method, InformedMethod)
    rng = np.random.default_rng(0)
    places = [np.full((1, 3), 8.0 + i) for i in range(len(energies))]
    told = [Evaluated((str(i),), places[i], e, np.zeros((1, 3))) for i, e in enumerate(energies)]

    def standing_on(i):
        # What the model says of the states is not asked for.
        return Walker(places[i], rng.normal(), 0.0, 0.1, str(i), 0, 0, "hop", (), True)

    state = method.start(Flat(), rng)
    state = method.judged(replace(state, trials=tuple(standing_on(0) for _ in range(walkers))), told)
    visits = np.zeros(len(energies))
    for step in range(steps):
        now = [int(w.id) for w in state.held]
        shifts = rng.integers(1, len(energies), size=walkers)
        trials = tuple(standing_on((i + s) % len(energies)) for i, s in zip(now, shifts, strict=True))
        state = method.judged(replace(state, trials=trials), told)
        if step >= 50:
            visits += np.bincount([int(w.id) for w in state.held], minlength=len(energies))
        np.testing.assert_array_equal(state.references, [energies[int(w.id)] for w in state.held])
    expected = np.exp(-np.array(energies) / kT)
    np.testing.assert_allclose(visits / visits.sum(), expected / expected.sum(), atol=0.012)


def test_a_lower_trial_is_taken_and_a_much_higher_one_is_not(cluster):
    method = _method(cluster, iterations_per_round=1, kT=0.01)
    state = next_round(method, after_a_round(method), [])
    assert state.held == (None,) * 3
    first = method.step(state, Flat()).state
    told = evaluated(method, first, [1.0, 2.0, 3.0])
    ids = [told[k].names[0] for k in range(3)]
    state = next_round(method, first, told)
    assert [w.id for w in state.held] == ids
    second = method.step(state, Flat()).state
    assert [c.parents for c in method.walkers(second)] == [(i,) for i in ids]
    told += evaluated(method, second, [0.5, 2.5, -7.0], only=(0, 1))
    state = next_round(method, second, told)
    assert [w.id for w in state.held] == [method.walkers(second)[0].id, ids[1], ids[2]]
    np.testing.assert_array_equal(state.references, [0.5, 2.0, 3.0])
    assert state.events == {REJECTED: 1, NOT_EVALUATED: 1}
    result = method.step(state, Flat())
    assert result.statistics.dropped == state.events
    assert result.statistics.acceptance == (1.0, 0.5, 1.0)
    assert result.state.events == {}


def test_a_trial_is_the_rounds_lowest_of_the_model(cluster):
    method = _method(cluster, iterations_per_round=4)
    state = method.start(Flat(), np.random.default_rng(0))
    for energy in (0.0, -2.0, -1.0, 5.0):
        state = method.step(state, Flat(energy)).state
    assert {c.iteration for c in method.walkers(state)} == {2}
    # Within the round, Metropolis went by the model: up by 1 eV hardly ever, by 7 eV never.
    assert {w.energy for w in state.here} <= {-2.0, -1.0}


def test_a_new_round_predicts_the_walkers_anew(cluster):
    method = _method(cluster, iterations_per_round=1)
    state = after_a_round(method)
    told = evaluated(method, state, [1.0, 2.0, 3.0])
    new = next_round(method, state, told, potential=Flat(-7.0))
    assert [w.energy for w in new.here] == [-7.0] * 3
    assert [w.foundation_energy for w in new.held] == [-8.0] * 3
    lost = next_round(method, state, told, potential=Flat(np.nan))
    assert lost.events == {LOST: 3}
    assert [w.energy for w in lost.here] == [0.0] * 3


def test_every_step_resumes_bit_for_bit(cluster, from_calculator):
    method = _method(cluster, iterations_per_round=2)
    potential = from_calculator(EMT())
    straight = resumed = method.inform(method.start(potential, np.random.default_rng(3)), [], potential)
    for round_ in range(3):
        while not method.finished(straight):
            one = method.step(straight, potential)
            two = method.step(method.load(resumed.to_bytes()), potential)
            assert one.state.to_bytes() == two.state.to_bytes()
            assert one.statistics == two.statistics
            for a, b in zip(one.candidates, two.candidates, strict=True):
                assert (a.id, a.energy, a.accepted, a.parents) == (b.id, b.energy, b.accepted, b.parents)
                np.testing.assert_array_equal(a.atoms.positions, b.atoms.positions)
            straight, resumed = one.state, two.state
        told = evaluated(method, straight, [0.3 * round_, 1.0, 2.0][: len(method.walkers(straight))])
        straight = next_round(method, straight, told, seed=round_, potential=potential)
        resumed = method.load(straight.to_bytes())
        assert resumed.to_bytes() == straight.to_bytes()


class Broken:
    def __init__(self, energy):
        self.energy = energy

    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        e = np.full(len(structures), self.energy)
        forces = [np.full((len(a), 3), 1.0) for a in structures]
        self.energy -= 1e6
        return PotentialBatch(e, forces, e, e * 0)


@pytest.mark.parametrize(
    ("energy", "reason"),
    [(np.nan, "energy or forces are not finite"), (0.0, "energy is absurdly low")],
)
def test_a_walker_that_never_relaxes_is_counted_and_stays(cluster, energy, reason):
    method = _method(cluster, iterations_per_round=1)
    state = after_a_round(method)
    state = next_round(method, state, evaluated(method, state, [1.0, 2.0, 3.0]))
    held = state.held
    for round_ in range(3):
        result = method.step(state, Broken(energy))
        assert result.candidates == []
        assert method.walkers(result.state) == []
        assert result.statistics.dropped == {reason: 3}
        assert method.finished(result.state)
        state = next_round(method, result.state, [], seed=round_)
        assert [w.id for w in state.held] == [w.id for w in held]
    assert len(method.step(state, Flat()).candidates) == 3


def test_a_quarter_of_the_atoms_is_rattled_on_average(cluster):
    method = _method(cluster, "Cu12", moves={"rattle": 1.0, "permutation": 0.0}, iterations_per_round=1)
    state = after_a_round(method)
    state = next_round(method, state, evaluated(method, state, [1.0, 2.0, 3.0]))
    shares = []
    for seed in range(60):
        proposals, *_ = method._propose(state, np.random.default_rng(seed))
        moved = [(p.positions != state.here[k].positions).any(axis=1).sum() for k, p in proposals.items()]
        assert min(moved) >= 1 or all(p.move == "unchanged" for p in proposals.values())
        shares += moved
    assert np.mean(shares) == pytest.approx(3.0, abs=0.5)


def test_a_state_that_does_not_fit_is_refused(cluster):
    method = _method(cluster)
    state = after_a_round(method)
    for other in (_method(cluster, formula="Cu4Ag"), _method(cluster, walkers=2)):
        with pytest.raises(ValueError, match="does not fit"):
            other.load(state.to_bytes())


@pytest.mark.slow
def test_it_finds_the_lennard_jones_icosahedron(cluster, from_calculator, lennard_jones):
    settings = BHSettings(
        walkers=6, iterations_per_round=1, kT=0.8, relax=RelaxSettings(steps=200, fmax=0.01)
    )
    method = make_method(settings, cluster("Ar13", edge=8.0))
    potential = from_calculator(lennard_jones)
    state = method.start(potential, np.random.default_rng(0))
    told, best = [], np.inf
    for seed in range(80):
        state = method.step(state, potential).state
        told += evaluated(method, state, [c.energy for c in method.walkers(state)])
        best = min(item.energy for item in told)
        if best < -44.3:
            break
        state = next_round(method, state, told, seed=seed, potential=potential)
    assert best == pytest.approx(-44.326801, abs=2e-3)  # Cambridge Cluster Database

import numpy as np
import pytest
from ase.calculators.emt import EMT

from godelta.search import make_method
from godelta.search.settings import RelaxSettings, RSSSettings


def _same(a, b):
    assert [c.id for c in a] == [c.id for c in b]
    for one, two in zip(a, b, strict=True):
        np.testing.assert_array_equal(one.atoms.positions, two.atoms.positions)
        assert one.energy == two.energy


def test_a_round_has_the_structures_asked_for_and_resumes_bit_for_bit(cluster, from_calculator):
    settings = RSSSettings(structures_per_round=5, batch=2, relax=RelaxSettings(steps=5))
    method = make_method(settings, cluster("Cu3Ag"))
    potential = from_calculator(EMT())
    state = method.start(potential, np.random.default_rng(0))
    sizes, identifiers = [], []
    for _ in range(2):
        while not method.finished(state):
            result = method.step(state, potential)
            again = method.step(method.load(state.to_bytes()), potential)
            _same(result.candidates, again.candidates)
            assert again.state.to_bytes() == result.state.to_bytes()
            sizes.append(len(result.candidates))
            identifiers += [c.id for c in result.candidates]
            assert result.statistics.best_energy == min(c.energy for c in result.candidates)
            state = result.state
        state = method.next_round(state, potential, np.random.default_rng(1))
    assert sizes == [2, 2, 1] * 2
    assert len(set(identifiers)) == 10


def test_low_minima_are_begun_from_again(cluster, from_calculator):
    settings = RSSSettings(
        structures_per_round=6, batch=3, relax=RelaxSettings(steps=5), generators={"random": 1, "reuse": 3}
    )
    method = make_method(settings, cluster("Cu3Ag"))
    potential = from_calculator(EMT())
    state = method.start(potential, np.random.default_rng(0))
    moves, energies = [], []
    while not method.finished(state):
        result = method.step(state, potential)
        again = method.step(method.load(state.to_bytes()), potential)
        _same(result.candidates, again.candidates)
        assert again.state.to_bytes() == result.state.to_bytes()
        moves += [c.move for c in result.candidates]
        energies += [c.energy for c in result.candidates]
        state = result.state
    assert state.energies[0] == min(energies)
    assert (np.diff(state.energies) > 0.01).all()
    assert moves.count("reuse") == result.statistics.moves["reuse"]["proposed"] > 0
    new = method.next_round(state, from_calculator(EMT(), offset=1.0), np.random.default_rng(1))
    np.testing.assert_allclose(new.energies, state.energies + 1.0)
    assert method.load(new.to_bytes()).to_bytes() == new.to_bytes()


@pytest.mark.slow
def test_it_finds_the_lennard_jones_heptamer(cluster, from_calculator, lennard_jones):
    settings = RSSSettings(structures_per_round=30, batch=10, relax=RelaxSettings(steps=200, fmax=0.005))
    method = make_method(settings, cluster("Ar7", edge=6.5))
    potential = from_calculator(lennard_jones)
    state = method.start(potential, np.random.default_rng(0))
    best = np.inf
    while not method.finished(state):
        result = method.step(state, potential)
        state, best = result.state, min(best, result.statistics.best_energy)
    assert best == pytest.approx(-16.505384, abs=2e-3)  # Cambridge Cluster Database

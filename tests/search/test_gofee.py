from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.emt import EMT

from godelta.delta.model import DeltaModel, train
from godelta.delta.settings import DeltaSettings
from godelta.foundation.ase_calculator import ASEFoundation
from godelta.foundation.base import PotentialBatch
from godelta.foundation.settings import ASEFoundationSettings
from godelta.search import make_method
from godelta.search.generators import PlacementRule, random_positions
from godelta.search.gofee import AT_REST, OUTSIDE
from godelta.search.parents import choose_parents, low_ones
from godelta.search.settings import GOFEESettings, RelaxSettings
from godelta.search.state import Evaluated, InformedMethod

FAST = RelaxSettings(steps=4, fmax=0.05)


def _method(cluster, formula="Cu3Ag", **keys):
    return make_method(
        GOFEESettings(**{"candidates": 5, "random_until": 1, "relax": FAST, **keys}), cluster(formula)
    )


class Flat:
    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        e = np.zeros(len(structures))
        return PotentialBatch(e, [np.zeros((len(a), 3)) for a in structures], e, e + 0.1)


def evaluated(candidates, energies, forces=None):
    """These candidates with reference energies in eV and forces in eV/Å."""
    return [
        Evaluated((c.id,), c.atoms.positions, e, np.zeros((len(c.atoms), 3)) if forces is None else forces)
        for c, e in zip(candidates, energies, strict=True)
    ]


def begun(method, seed=0):
    return method.inform(method.start(Flat(), np.random.default_rng(seed)), [], Flat())


def next_round(method, state, told, seed=1):
    return method.inform(method.next_round(state, Flat(), np.random.default_rng(seed)), told, Flat())


def test_the_window_is_doubled_until_there_are_enough():
    near = np.linspace(0.0, 4.9, 20)
    np.testing.assert_array_equal(low_ones(np.concatenate([near, [5.1]]) - 70.0), np.arange(20))
    np.testing.assert_array_equal(low_ones(np.concatenate([near[2:], [0.0, 30.0, 39.0]])), np.arange(21))
    few = np.array([0.0, 79.0, 81.0])
    np.testing.assert_array_equal(low_ones(few), [0, 1])


def test_parents_are_the_lowest_of_their_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    kinds = np.repeat([0, 1, 2], 4)[:14]
    features = list(centres[kinds] + rng.normal(size=(12, 2)))
    energies = rng.uniform(0, 3, size=12)
    chosen = choose_parents(energies, features, seed=1)  # 12 structures: 1 + 12 // 5 clusters
    lowest = {int(np.flatnonzero(kinds == k)[np.argmin(energies[kinds == k])]) for k in range(3)}
    assert set(chosen.tolist()) == lowest
    assert (np.diff(energies[chosen]) >= 0).all()
    assert choose_parents(energies[:4], features[:4], seed=1).tolist() == [int(np.argmin(energies[:4]))]
    same = choose_parents(energies, [np.zeros(2)] * 12, seed=1)
    assert int(np.argmin(energies)) in same.tolist()


def test_first_random_ones_then_a_share_and_moved_parents(cluster):
    method = _method(cluster, candidates=10, random_until=2, iterations_per_round=3)
    assert isinstance(method, InformedMethod)
    first = method.step(begun(method), Flat())
    told = evaluated(first.candidates, np.arange(10.0) * 0.1)
    state = next_round(method, first.state, told)
    assert 1 <= len(state.parents) <= 3
    assert state.parent_names[0] == told[0].names[0]
    moves = []
    for _ in range(3):
        result = method.step(state, Flat())
        state = result.state
        moves.append([c.move for c in result.candidates])
        assert all((c.parents == ()) == (c.move == "random") for c in result.candidates)
        assert {p for c in result.candidates for p in c.parents} <= set(state.parent_names)
    assert moves[0] == ["random"] * 10  # the chain's second iteration
    assert [m.count("random") for m in moves[1:]] == [2, 2]
    assert method.finished(state)


def test_without_a_good_evaluation_all_are_random(cluster):
    method = _method(cluster, random_until=0)
    state = next_round(method, method.step(begun(method), Flat()).state, [])
    assert [c.move for c in method.step(state, Flat()).candidates] == ["random"] * 5


def test_a_step_follows_each_evaluation_once(cluster):
    method = _method(cluster, preset="paper", candidates=3, relax=FAST)
    state = begun(method)
    result = method.step(state, Flat())
    forces = np.zeros((4, 3))
    forces[0] = (3.5, 0.0, 0.0)
    told = evaluated(result.candidates[:1], [1.0], forces)
    state = next_round(method, result.state, told)
    result = method.step(method.load(state.to_bytes()), Flat())
    (step,) = [c for c in result.candidates if c.move == "step"]
    assert step.parents == told[0].names
    np.testing.assert_allclose(step.atoms.positions, told[0].positions + forces / 70.0, atol=1e-12)
    # Neither from the same one again, nor from the step itself.
    told += evaluated([step], [0.5], forces * 100)
    state = next_round(method, result.state, told)
    assert len(state.steps) == 0
    strangers = [replace(told[0], names=("another-1-1",))]
    assert len(next_round(method, result.state, strangers).steps) == 0


def test_steps_are_short_and_those_of_no_use_are_counted(cluster):
    method = _method(cluster, preset="paper", candidates=3, relax=FAST)
    result = method.step(begun(method), Flat())
    huge = np.zeros((4, 3))
    huge[1] = (0.0, 400.0, 300.0)
    told = evaluated(result.candidates[:1], [1.0], huge)
    centred = replace(told[0], positions=told[0].positions - told[0].positions.mean(axis=0) + 10.0)
    (new,) = next_round(method, result.state, [centred]).steps
    np.testing.assert_allclose((new - centred.positions)[1], [0.0, 0.16, 0.12])
    still = next_round(method, result.state, evaluated(result.candidates[:1], [1.0]))
    assert still.events == {AT_REST: 1}
    out = next_round(method, result.state, [replace(told[0], positions=told[0].positions + 6.0)])
    assert out.events == {OUTSIDE: 1}
    assert method.step(out, Flat()).statistics.dropped[OUTSIDE] == 1


def test_follow_ups_need_room():
    with pytest.raises(ValueError, match="evaluations_per_round"):
        GOFEESettings(follow_up=True, selection={"evaluations_per_round": 1})


@pytest.fixture(scope="module")
def learnt():
    """EMT with Cu and Ag exchanged, and a Δ-model trained on a few structures of EMT."""
    settings = ASEFoundationSettings(name="ase", calculator="godelta.examples.exchanged_emt.ExchangedEMT")
    foundation = ASEFoundation(settings)

    def make(problem, count=8):
        rule, rng = PlacementRule(problem), np.random.default_rng(5)
        structures = []
        for _ in range(count):
            positions = random_positions(rule, rng)
            structures.append(problem.structure(positions[problem.placed]))
        energies = []
        for atoms in structures:
            bare = atoms.copy()
            bare.calc = EMT()
            energies.append(bare.get_potential_energy())
        correction = train(
            DeltaSettings(inducing_points=40, force_directions=0),
            [29, 47],
            structures,
            foundation_energies=foundation.evaluate(structures).energies,
            reference_energies=energies,
            ids=[str(k) for k in range(count)],
        )
        return DeltaModel(foundation, correction, None)

    return make


def test_relaxations_end_at_minima_of_the_lower_confidence_bound(cluster, learnt):
    """The slope there is below fmax by differences of E - kappa sigma alone; that of E is not."""
    kappa, fmax, h = 2.0, 0.02, 1e-3
    method = _method(cluster, candidates=6, kappa=kappa, relax=RelaxSettings(steps=300, fmax=fmax))
    problem, potential = method.problem, learnt(method.problem)
    result = method.step(begun(method), potential)
    minima = [c for c in result.candidates if c.converged]
    assert len(minima) >= 3

    def slopes(candidate, weight):
        """Largest force on an atom, eV/Å, walls included."""
        shifted = []
        for atom in range(4):
            for axis in range(3):
                for sign in (1, -1):
                    atoms = candidate.atoms.copy()
                    atoms.positions[atom, axis] += sign * h
                    shifted.append(atoms)
        batch = potential.evaluate(shifted, uncertainty=True)
        walls = [problem.confinement.wall_energy(a.positions)[0] for a in shifted]
        surface = (batch.energies - weight * batch.uncertainties + walls).reshape(4, 3, 2)
        forces = -(surface[..., 0] - surface[..., 1]) / (2 * h)
        return float(np.linalg.norm(forces, axis=1).max())

    assert max(slopes(c, kappa) for c in minima) < fmax * 1.05
    assert max(slopes(c, 0.0) for c in minima) > 2 * fmax
    plain = potential.evaluate([c.atoms for c in minima])
    np.testing.assert_allclose([c.energy for c in minima], plain.energies, atol=1e-8)  # E itself is kept


def test_every_step_resumes_bit_for_bit(cluster, from_calculator):
    method = _method(cluster, preset="paper", candidates=4, relax=FAST, random_until=1)
    potential = from_calculator(EMT())
    straight = resumed = method.inform(method.start(potential, np.random.default_rng(3)), [], potential)
    told = []
    for round_ in range(4):
        while not method.finished(straight):
            one = method.step(straight, potential)
            two = method.step(method.load(resumed.to_bytes()), potential)
            assert one.state.to_bytes() == two.state.to_bytes()
            assert one.statistics == two.statistics
            for a, b in zip(one.candidates, two.candidates, strict=True):
                assert (a.id, a.move, a.energy, a.parents) == (b.id, b.move, b.energy, b.parents)
                np.testing.assert_array_equal(a.atoms.positions, b.atoms.positions)
            straight, resumed = one.state, two.state
        told += evaluated(one.candidates[:1], [float(round_)], np.full((4, 3), 0.3))
        straight = next_round(method, straight, told, seed=round_)
        resumed = method.load(straight.to_bytes())
        assert resumed.to_bytes() == straight.to_bytes()
    assert len(straight.followed) > 2


def test_a_state_that_does_not_fit_is_refused(cluster):
    with pytest.raises(ValueError, match="does not fit"):
        _method(cluster, "Cu4Ag").load(begun(_method(cluster)).to_bytes())

"""Relaxation at the reference level, guided by a model."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from godelta.examples.exchanged_emt import ExchangedEMT
from godelta.foundation.base import PotentialBatch
from godelta.search.refinement import Refinement
from godelta.search.relax import relax
from godelta.search.settings import REFINEMENT, RefineSettings, RelaxSettings
from godelta.search.state import Evaluated


@pytest.fixture
def reference(from_calculator):
    return from_calculator(EMT())


@pytest.fixture
def model(from_calculator):
    """A model that is wrong: Cu and Ag exchanged."""
    return from_calculator(ExchangedEMT(), offset=7.0)


def told(atoms, reference, *names):
    batch = reference.evaluate([atoms])
    return Evaluated(names, atoms.positions.copy(), float(batch.energies[0]), batch.forces[0])


def begun(problem, reference, model, settings, seed=0):
    """A refinement from a minimum of the model."""
    rng = np.random.default_rng(seed)
    placed = rng.uniform(0.3, 0.7, size=(len(problem.numbers), 3)) @ problem.confinement.cell
    start = problem.structure(problem.confinement.corner + placed)
    (there,) = relax([start], model, RelaxSettings(steps=200), problem)
    method = Refinement(settings, problem)
    return method, method.begin(method.start(rng), [told(there.atoms, reference, "start")])


def finished(method, state, reference, model, *, fails=lambda k: False):
    """The state when every track has ended, and the candidates on the way."""
    found = []
    while True:
        state, candidates = method.step(method.load(state.to_bytes()), model)
        if not candidates:
            return state, found
        found += candidates
        known = [told(c.atoms, reference, c.id) for c in candidates]
        state = method.judge(state, [] if fails(len(found)) else known)


@pytest.mark.parametrize("seed", range(3))
def test_it_ends_in_a_minimum_of_the_reference_under_a_wrong_model(cluster, reference, model, seed):
    problem = cluster("Cu5Ag2")
    settings = RefineSettings(best=1, fmax=0.02, evaluations=150)
    method, state = begun(problem, reference, model, settings, seed)
    start = state.tracks[0].energy
    state, found = finished(method, state, reference, model)
    (track,) = state.tracks
    assert track.status == "converged"
    assert track.fmax(problem) <= 0.02
    assert track.energy < start
    assert track.evaluations == len(found)
    assert track.at == found[-1].id
    assert all(c.move == REFINEMENT for c in found)
    # A minimum, by another code: nothing is left to gain, and it does not go anywhere.
    atoms = problem.structure(track.positions)
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-4, steps=500)
    assert atoms.get_potential_energy() == pytest.approx(track.energy, abs=2e-3)


def test_energies_only_ever_fall(cluster, reference, model):
    problem = cluster("Cu5Ag2")
    method, state = begun(problem, reference, model, RefineSettings(best=1, evaluations=20))
    energies = [state.tracks[0].energy]
    while state.tracks[0].status == "running":
        state, (new,) = method.step(state, model)
        assert new.parents == (state.tracks[0].at,)
        state = method.judge(state, [told(new.atoms, reference, new.id)])
        energies.append(state.tracks[0].energy)
    assert all(after <= before + 1e-3 for before, after in pairwise(energies))


def test_a_right_model_needs_next_to_nothing(cluster, reference, from_calculator):
    """Where the model's curvatures are the reference's, one step leads to the minimum."""
    problem = cluster("Cu5Ag2")
    tilted = from_calculator(EMT())
    force = np.random.default_rng(1).normal(scale=0.3, size=(len(problem.numbers), 3))
    force -= force.mean(axis=0)

    class Tilted:
        """The reference and a constant force."""

        def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
            batch = tilted.evaluate(structures)
            pull = np.array([float((force * atoms.positions).sum()) for atoms in structures])
            return replace(batch, energies=batch.energies - pull, forces=[f + force for f in batch.forces])

    method, state = begun(problem, reference, Tilted(), RefineSettings(best=1))
    state, found = finished(method, state, reference, Tilted())
    assert state.tracks[0].status == "converged"
    assert len(found) == 1


def test_one_that_is_a_minimum_already_costs_nothing(cluster, reference):
    method, state = begun(cluster("Cu3"), reference, reference, RefineSettings(best=1, fmax=0.1))
    assert [track.status for track in state.tracks] == ["converged"]
    assert method.step(state, reference)[1] == []


def test_three_failures_in_a_row_end_it(cluster, reference, model):
    method, state = begun(cluster("Cu5Ag2"), reference, model, RefineSettings(best=1))
    state, found = finished(method, state, reference, model, fails=lambda k: k > 1)
    assert state.tracks[0].status == "failed"
    assert len(found) == 4
    lengths = [np.linalg.norm(c.atoms.positions - state.tracks[0].positions) for c in found[1:]]
    assert lengths[0] > lengths[1] > lengths[2]  # ever closer to where it stands
    again = method.judge(state, [])
    assert again.tracks[0].status == "failed"


def test_more_may_be_asked_for_later(cluster, reference, model):
    problem = cluster("Cu5Ag2")
    few = RefineSettings(best=1, fmax=0.1, evaluations=2)
    method, state = begun(problem, reference, model, few)
    state, found = finished(method, state, reference, model)
    assert (state.tracks[0].status, len(found)) == ("spent", 2)
    more = Refinement(few.model_copy(update={"evaluations": 100}), problem)
    state, _ = finished(more, more.judge(state, []), reference, model)
    assert state.tracks[0].status == "converged"
    finer = Refinement(RefineSettings(best=1, fmax=0.01, evaluations=200), problem)
    state, further = finished(finer, finer.judge(state, []), reference, model)
    assert state.tracks[0].status == "converged"
    assert state.tracks[0].fmax(problem) <= 0.01
    assert further


def test_no_more_structures_at_a_time_than_asked_for(cluster, reference, model):
    problem = cluster("Cu5Ag2")
    settings = RefineSettings(best=2, evaluations=100)
    method, one = begun(problem, reference, model, settings, 0)
    _, other = begun(problem, reference, model, settings, 1)
    _, third = begun(problem, reference, model, settings, 2)
    state = replace(one, tracks=one.tracks + other.tracks + third.tracks)
    state, candidates = method.step(state, model)
    assert [c.walker for c in candidates] == [0, 1]
    state, _ = finished(method, method.judge(state, [told(c.atoms, reference, c.id) for c in candidates]),
                        reference, model)  # fmt: skip
    assert [track.status for track in state.tracks] == ["converged"] * 3


def test_a_slab_keeps_its_fixed_atoms(surface, reference, from_calculator):
    problem = surface("CuAg", held=1)
    model = from_calculator(ExchangedEMT())
    rng = np.random.default_rng(0)
    top = problem.template.positions[:, 2].max()
    places = np.array([[2.0, 1.5, top + 2.0], [5.0, 3.0, top + 2.0]])
    assert problem.confinement.contains(places).all()
    method = Refinement(RefineSettings(best=1, evaluations=60), problem)
    there = problem.structure(places)
    state = method.begin(method.start(rng), [told(there, reference, "start")])
    state, found = finished(method, state, reference, model)
    assert state.tracks[0].status == "converged"
    held = problem.fixed
    for c in found:
        np.testing.assert_array_equal(
            c.atoms.positions[: len(held)][held], there.positions[: len(held)][held]
        )


class Nowhere:
    """A model without forces: it sees no way down, whatever the reference says."""

    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        e = np.full(len(structures), np.nan)
        return PotentialBatch(e, [np.full((len(a), 3), np.nan) for a in structures], e, e)


def test_a_model_that_has_left_its_senses_is_said(cluster, reference, model):
    method, state = begun(cluster("Cu5Ag2"), reference, model, RefineSettings(best=1))
    state, candidates = method.step(state, Nowhere())
    assert candidates == []
    assert state.tracks[0].status == "stuck"
    assert method.report(state)[0]["status"] == "stuck"


def test_a_state_of_another_problem_is_refused(cluster, reference, model):
    method, state = begun(cluster("Cu5Ag2"), reference, model, RefineSettings(best=1))
    other = Refinement(RefineSettings(best=1), cluster("Cu3"))
    with pytest.raises(ValueError, match="does not fit"):
        other.load(state.to_bytes())
    assert method.load(state.to_bytes()).to_bytes() == state.to_bytes()

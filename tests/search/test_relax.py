import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.optimize import BFGS

from godelta.foundation.base import PotentialBatch
from godelta.search.generators import PlacementRule, random_positions
from godelta.search.relax import relax
from godelta.search.settings import RelaxSettings

TIGHT = RelaxSettings(steps=500, fmax=0.002)


def _random(problem, count, seed=0):
    rule, rng = PlacementRule(problem), np.random.default_rng(seed)
    return [problem.structure(random_positions(rule, rng)[problem.placed]) for _ in range(count)]


@pytest.mark.parametrize("kind", ["cluster", "slab", "free top layer"])
def test_minima_are_those_of_ase(kind, cluster, surface, from_calculator):
    problem = {
        "cluster": lambda: cluster("Cu6Ag2", edge=11.0),
        "slab": lambda: surface("Cu2Ag"),
        "free top layer": lambda: surface("Ag", held=1),
    }[kind]()
    rng = np.random.default_rng(1)
    starts = []
    for atoms in _random(problem, 2):
        atoms.calc = EMT()
        assert BFGS(atoms, logfile=None).run(fmax=0.002, steps=1000)
        minimum, energy = atoms.positions.copy(), atoms.get_potential_energy()
        if problem.confinement.wall_energy(minimum[problem.placed])[0] > 0:
            continue  # ASE's run knows no walls
        start = atoms.copy()
        start.positions[problem.moving] += rng.normal(scale=0.02, size=(problem.moving.sum(), 3))
        starts.append((start, atoms, energy))
    assert starts
    results = relax([s for s, _, _ in starts], from_calculator(EMT()), TIGHT, problem)
    for result, (_, atoms, energy) in zip(results, starts, strict=True):
        assert result.converged
        assert result.energy == pytest.approx(energy, abs=1e-3)
        np.testing.assert_allclose(
            result.atoms.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=0.03
        )


def test_a_batch_gives_what_single_runs_give_and_shrinks(cluster, from_calculator):
    problem = cluster("Cu5Ag")
    structures = _random(problem, 5)
    settings = RelaxSettings(steps=60, fmax=0.05)
    potential = from_calculator(EMT(), offset=-1.0)
    together = relax(structures, potential, settings, problem)
    for atoms, result in zip(structures, together, strict=True):
        (alone,) = relax([atoms], from_calculator(EMT(), offset=-1.0), settings, problem)
        np.testing.assert_allclose(alone.atoms.positions, result.atoms.positions, atol=1e-9)
        assert (alone.steps, alone.converged) == (result.steps, result.converged)
    assert potential.sizes[0] == 5
    assert sum(potential.sizes) == sum(r.evaluations for r in together)
    assert (np.diff(potential.sizes) <= 0).all()


@pytest.mark.parametrize("steps", [0, 3, 500])
def test_results_belong_to_the_returned_geometry_which_was_evaluated_last(steps, cluster, from_calculator):
    problem = cluster("Cu4Ag")
    (start,) = _random(problem, 1)
    before = start.positions.copy()
    potential = from_calculator(EMT(), offset=-1.0)
    (result,) = relax([start], potential, RelaxSettings(steps=steps, fmax=0.01), problem)
    np.testing.assert_array_equal(potential.seen[-1], result.atoms.positions)
    fresh = from_calculator(EMT(), offset=-1.0).evaluate([result.atoms])
    assert result.energy == pytest.approx(fresh.energies[0], abs=1e-10)
    assert result.foundation_energy == pytest.approx(result.energy + 1.0, abs=1e-10)
    assert result.evaluations == result.steps + 1
    assert result.steps <= steps
    assert result.converged == (steps == 500)
    np.testing.assert_array_equal(start.positions, before)  # the input is left alone


def test_fixed_atoms_stay_and_walls_hold(surface, from_calculator):
    problem = surface("Cu2")
    top = problem.confinement.corner[2] + 5.0
    start = problem.structure(np.array([[1.0, 1.0, top - 0.1], [1.0, 3.5, top - 0.1]]))

    class Upwards:
        def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
            e = np.array([-2.0 * a.positions[problem.placed, 2].sum() for a in structures])
            f = [np.where(problem.placed[:, None], [0, 0, 2.0], 0.0) for _ in structures]
            return PotentialBatch(e, f, e, e * np.nan)

    (result,) = relax([start], Upwards(), RelaxSettings(steps=100, fmax=0.001), problem)
    assert result.converged
    assert (result.atoms.positions[problem.placed, 2] < top).all()
    assert result.energy == pytest.approx(-2.0 * result.atoms.positions[problem.placed, 2].sum())
    np.testing.assert_array_equal(result.atoms.positions[:18], problem.template.positions)

    problem = surface("Cu2", held=1)
    (result,) = relax(_random(problem, 1), from_calculator(EMT()), RelaxSettings(steps=30), problem)
    np.testing.assert_array_equal(
        result.atoms.positions[:18][problem.fixed], problem.template.positions[problem.fixed]
    )
    assert (result.atoms.positions[:18][~problem.fixed] != problem.template.positions[~problem.fixed]).any()


class Exploding:
    """The k-th structure fails in the k-th way; the last one is at rest."""

    def __init__(self, n):
        self.n, self.calls = n, 0

    def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
        self.calls += 1
        e, f = np.zeros(len(structures)), [np.zeros((self.n, 3)) for _ in structures]
        if self.calls == 1:
            f[0][0, 0] = np.nan
            e[1] = np.inf
            f[2][0, 0] = 1e6
            f[3] += 0.5
        elif self.calls == 2:
            e[0] = -1e6
        return PotentialBatch(e, f, e, e * np.nan)


def test_structures_that_explode_are_dropped_with_a_reason(cluster):
    problem = cluster("Ag3")
    starts = _random(problem, 6)
    starts[4].positions[1] = starts[4].positions[0] + [0.1, 0, 0]
    results = relax(starts, Exploding(3), RelaxSettings(), problem)
    reasons = [r.dropped for r in results]
    assert reasons == [
        "energy or forces are not finite",
        "energy or forces are not finite",
        "forces are huge",
        "energy is absurdly low",
        "atoms went through each other",
        None,
    ]


def test_kappa_reaches_the_potential(cluster):
    asked = []

    class Recorder:
        def evaluate(self, structures, *, kappa=0.0, uncertainty=False):
            asked.append((kappa, uncertainty))
            e = np.zeros(len(structures))
            return PotentialBatch(e, [np.zeros((2, 3)) for _ in e], e, e + 0.3)

    problem = cluster("Ag2")
    (result,) = relax(_random(problem, 1), Recorder(), RelaxSettings(), problem, kappa=1.5)
    assert set(asked) == {(1.5, True)}
    assert result.uncertainty == 0.3


def test_no_structures_no_calls(cluster):
    assert relax([], Exploding(1), RelaxSettings(), cluster("Ag2")) == []

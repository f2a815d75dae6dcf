"""What holds for every generator and every move, on random problems."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.data import covalent_radii
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from godelta.errors import GodeltaError
from godelta.search.mover import Generator, Mover
from godelta.search.weights import GeneratorWeights, MoveWeights
from godelta.systems.confinement import Confinement
from godelta.systems.problem import SearchProblem

FORMULAS = ["Ag", "Ag2", "Ag4S2", "Cu3Ag2O", "H5O2", "Ag8S4", "Cs2F"]
MOVES = ["rattle", "permutation", "centre_of_geometry", "symmetric_rattle"]
GENERATORS = ["random", "symmetric", "reuse"]


@st.composite
def problems(draw):
    """Clusters in skewed boxes, slabs with skewed cells and some layers free, and flat confinements."""
    kind = draw(st.sampled_from(["cluster", "slab", "flat", "flat cluster"]))
    numbers = Atoms(draw(st.sampled_from(FORMULAS))).numbers.astype(np.int64)
    if "cluster" in kind:
        edge, skew = draw(st.floats(6.0, 11.0)), draw(st.floats(-0.5, 0.5))
        cell = edge * np.array([[1.0, 0, 0], [skew, 1.0, 0], [0.2 * skew, 0, 1.0]])
        dimensions = 2 if kind == "flat cluster" else 3
        corner = np.array([4.0, 5.0, 6.0])
        region = Confinement(cell[:dimensions], corner, (True,) * dimensions)
        return SearchProblem(Atoms(cell=np.eye(3) * 30), np.zeros(0, dtype=bool), numbers, region)
    slab = fcc111("Cu", (draw(st.integers(1, 3)), draw(st.integers(2, 3)), 2), vacuum=0.0, periodic=True)
    cell = np.array(slab.cell)
    cell[0] += draw(st.sampled_from([0, 1])) * cell[1]  # the same lattice, more skewed
    cell[2] = (draw(st.floats(-3.0, 3.0)), 0.0, 24.0)
    slab.positions += [0.0, 0.0, 5.0 - slab.positions[:, 2].min()]
    template = Atoms(slab.numbers, slab.positions, cell=cell, pbc=(True, True, False))
    top = slab.positions[:, 2].max()
    if kind == "flat":
        region = Confinement(cell[:2], np.array([0, 0, top + 1.9]), (False, False))
    else:
        spans = np.array([cell[0], cell[1], [0, 0, draw(st.floats(3.0, 7.0))]])
        region = Confinement(spans, np.array([0, 0, top + 0.5]), (False, False, True))
    fixed = np.asarray(slab.get_tags() > draw(st.sampled_from([0, 1])))
    return SearchProblem(template, fixed, numbers, region)


def _check(problem, positions):
    numbers = problem.structure(positions[problem.placed]).numbers
    assert positions.shape == (len(problem.moving), 3)
    assert np.isfinite(positions).all()
    np.testing.assert_array_equal(positions[~problem.placed], problem.template.positions)
    assert problem.confinement.contains(positions[problem.placed]).all()
    radii = covalent_radii[numbers]
    ratios = problem.structure(positions[problem.placed]).get_all_distances(mic=True)
    ratios = ratios / (radii[:, None] + radii)
    np.fill_diagonal(ratios, np.inf)
    assert ratios[problem.placed].min() > 0.75
    if problem.confinement.dimensions == 2:
        plane = problem.confinement.corner[2]
        np.testing.assert_allclose(positions[problem.placed, 2], plane, atol=1e-9)


def _weights(kind, names):
    return {name: float(name == kind) for name in names}


def _made(problem, kind, seed, pool=()):
    generator = Generator(problem, GeneratorWeights(**_weights(kind, GENERATORS)), pool)
    try:
        return generator.make(np.random.default_rng(seed))
    except GodeltaError:
        return None


@pytest.mark.parametrize("kind", ["random", "symmetric"])
@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_generators(kind, problem, seed):
    made = _made(problem, kind, seed)
    assume(made is not None)  # too little room is an error of its own
    name, positions = made
    assert name in (kind, "random")
    _check(problem, positions)
    again, same = _made(problem, kind, seed)
    assert again == name
    np.testing.assert_array_equal(same, positions)


@pytest.mark.parametrize("kind", MOVES)
@given(
    problem=problems(),
    seed=st.integers(0, 2**32 - 1),
    amplitude=st.floats(0.05, 5.0),
    begin=st.sampled_from(["random", "symmetric"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_moves(kind, problem, seed, amplitude, begin):
    made = _made(problem, begin, seed)
    assume(made is not None)
    weights = MoveWeights(**_weights(kind, MOVES))
    ends = []
    for _ in range(2):
        rng = np.random.default_rng(seed + 1)
        positions = made[1]
        mover = Mover(problem, weights)
        for _ in range(3):
            name, positions = mover.propose(positions, amplitude, rng)
            assert name in (kind, "unchanged")
            _check(problem, positions)
        assert sum(mover.impossible.values()) <= 3
        ends.append(positions)
    np.testing.assert_array_equal(*ends)
    np.testing.assert_array_equal(made[1], _made(problem, begin, seed)[1])  # what came in is left alone


@given(problem=problems(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_reuse(problem, seed):
    made = _made(problem, "random", seed)
    assume(made is not None)
    name, positions = _made(problem, "reuse", seed, [made[1]])
    assert name == "reuse"
    _check(problem, positions)

import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.data import covalent_radii
from scipy.stats import kstest

from godelta.search.generators import PlacementRule, random_positions
from godelta.search.moves import permute, rattle
from godelta.systems.confinement import Confinement
from godelta.systems.problem import SearchProblem


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_rattle_keeps_the_rule_and_the_template(dimensions, surface):
    problem = surface("Ag2O2", dimensions=dimensions)
    rule = PlacementRule(problem)
    rng = np.random.default_rng(0)
    positions = random_positions(rule, rng)
    for _ in range(20):
        moved = rattle(rule, positions, 1.5, rng)
        atoms = problem.structure(moved[problem.placed])
        radii = covalent_radii[atoms.numbers]
        ratios = atoms.get_all_distances(mic=True) / (radii[:, None] + radii)
        np.fill_diagonal(ratios, np.inf)
        assert ratios[problem.placed].min() > 0.75
        assert problem.confinement.contains(moved[problem.placed]).all()
        np.testing.assert_array_equal(moved[~problem.placed], problem.template.positions)
        assert (moved[problem.placed] != positions[problem.placed]).any(axis=1).all()
        if dimensions == 2:
            np.testing.assert_allclose(moved[:, 2], positions[:, 2])
        positions = moved


def test_displacements_fill_a_ball(cluster):
    problem = cluster("Ag", edge=12.0)
    rule = PlacementRule(problem)
    rng = np.random.default_rng(0)
    start = np.full((1, 3), 10.0)
    shifts = np.array([(rattle(rule, start, 2.0, rng) - start)[0] for _ in range(3000)])
    r = np.linalg.norm(shifts, axis=1)
    assert kstest((r / 2.0) ** 3, "uniform").pvalue > 1e-3
    for axis in range(3):
        assert kstest(shifts[:, axis] / r, "uniform", args=(-1, 2)).pvalue > 1e-3


def test_an_atom_without_a_place_stays(cluster):
    problem = cluster("Ag2", edge=12.0)
    far = np.array([[5.0, 5.0, 5.0], [15.0, 15.0, 15.0]])  # no neighbour within reach of 0.5 Å
    np.testing.assert_array_equal(rattle(PlacementRule(problem), far, 0.5, np.random.default_rng(0)), far)


def test_neighbours_across_the_boundary_count(surface):
    problem = surface("O2")
    top = problem.template.positions[:, 2].max()
    x = np.array([[0.05, 0.05, top + 1.5], [0.05, 0.05, top + 1.5] + problem.template.cell[0] - [1.2, 0, 0]])
    positions = np.concatenate([problem.template.positions, x])
    rule = PlacementRule(problem)
    pair = Atoms("O2", x, cell=problem.template.cell, pbc=problem.template.pbc)
    assert pair.get_distance(0, 1, mic=True) < 1.25 * 2 * covalent_radii[8] < pair.get_distance(0, 1)
    others = np.zeros(len(positions), dtype=bool)
    others[-1] = True
    assert rule.allows(x[:1], len(positions) - 2, positions, others)[0]


def test_a_permutation_exchanges_one_unlike_pair_and_keeps_the_rule(surface):
    problem = surface("Cu3Ag2")
    rule = PlacementRule(problem)
    rng = np.random.default_rng(3)
    positions = random_positions(rule, rng)
    seen = set()
    for _ in range(60):
        moved = permute(rule, positions, rng)
        if moved is None:
            continue
        changed = np.flatnonzero((moved != positions).any(axis=1))
        a, b = changed
        assert set(problem.structure(moved[problem.placed]).numbers[changed]) == {29, 47}
        np.testing.assert_array_equal(moved[[a, b]], positions[[b, a]])
        assert problem.placed[changed].all()
        for atom in changed:
            others = np.arange(len(moved)) != atom
            assert rule.allows(moved[atom][None], int(atom), moved, others)[0]
        seen.add((int(a), int(b)))
    assert len(seen) > 1


def test_like_atoms_are_not_exchanged(cluster):
    problem = cluster("Ag3")
    rule = PlacementRule(problem)
    rng = np.random.default_rng(0)
    assert permute(rule, random_positions(rule, rng), rng) is None


@pytest.mark.parametrize("amplitude", [0.1, 5.0])
def test_a_rattle_of_a_slab_of_60_atoms_takes_less_than_10_ms(amplitude):
    slab = fcc111("Ag", (3, 3, 4), vacuum=0.0, periodic=True)
    slab.positions[:, 2] += 5.0 - slab.positions[:, 2].min()
    cell = np.array(slab.cell)
    cell[2] = (0.0, 0.0, 35.0)
    region = Confinement(
        np.array([*cell[:2], [0, 0, 8.0]]),
        np.array([0, 0, slab.positions[:, 2].max() + 0.5]),
        (False, False, True),
    )
    problem = SearchProblem(
        Atoms(slab.numbers, slab.positions, cell=cell, pbc=(True, True, False)),
        np.ones(36, dtype=bool),
        Atoms("Ag12S12").numbers.astype(np.int64),
        region,
    )
    rule = PlacementRule(problem)
    rng = np.random.default_rng(0)
    positions = random_positions(rule, rng)
    spent = []
    for _ in range(15):
        begun = time.process_time()  # of this process: other jobs on the machine do not count
        rattle(rule, positions, amplitude, rng)
        spent.append(time.process_time() - begun)
    assert np.median(spent) < 0.010

"""Bonds counted by hand, and errors per bond that were put in."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones

from godelta.analysis.bonds import error_per_bond, surroundings


def test_bonds_and_neighbours_of_a_molecule():
    """S-S at 2 Å, silver 2.5 Å from one of them, and a lonely silver atom."""
    atoms = Atoms("S2Ag2", [[0, 0, 0], [2, 0, 0], [0, 2.5, 0], [9, 9, 9]])
    around = surroundings([atoms, Atoms("S", [[0, 0, 0]])])
    assert around.species == (47, 16)
    assert around.pairs == ("Ag-Ag", "Ag-S", "S-S")
    assert around.bonds.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert around.neighbours[0].tolist() == [[1, 1], [0, 1], [0, 1], [0, 0]]


def test_images_count_in_a_crystal():
    """Twelve neighbours in fcc, half a bond each: six bonds for an atom, however large the cell."""
    crystal = bulk("Ag", a=4.09)
    around = surroundings([crystal, crystal.repeat(2)])
    assert around.bonds.tolist() == [[6], [48]]
    assert (around.neighbours[1] == 12).all()


def _chains(rng: np.random.Generator, count: int) -> list[Atoms]:
    """Four sulfur and four silver atoms; some of the sulfur atoms are paired."""
    made = []
    for k in range(count):
        positions = 4.0 * np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)], float)
        for pair in range(k % 3):  # none, one, two
            positions[2 * pair + 1] = positions[2 * pair] + [0, 0, 2.0]
        for silver in range(int(rng.integers(0, 3))):
            positions[5 + silver] = positions[4] + [[0, 2.8, 0], [2.8, 0, 0]][silver]
        made.append(Atoms("S4Ag4", positions + rng.normal(0, 0.05, (8, 3))))
    return made


def test_a_term_added_to_a_pair_is_found():
    """The reference is Lennard-Jones; the foundation has 0.4 eV more for S-S within 2.5 Å."""
    structures = _chains(np.random.default_rng(1), 30)
    calculator = LennardJones(sigma=2.2, epsilon=0.1, rc=12.0)
    reference, foundation = [], []
    for atoms in structures:
        near = atoms.get_all_distances()[:4, :4][np.triu_indices(4, 1)]
        reference.append(calculator.get_potential_energy(atoms))
        foundation.append(reference[-1] + 3.0 - 0.4 * float((1 / (1 + np.exp((near - 2.6) / 0.01))).sum()))
    around = surroundings(structures)
    errors = np.array(foundation) - np.array(reference)
    fit = error_per_bond(errors, around.bonds, np.zeros(30, dtype=np.int64), around.pairs)
    found = {bond.pair: bond for bond in fit.bonds}
    assert found["S-S"].slope == pytest.approx(-0.4, abs=1e-4)
    assert found["Ag-Ag"].slope == pytest.approx(0.0, abs=1e-4)
    assert fit.explained == pytest.approx(1.0, abs=1e-6)
    assert (found["S-S"].present, found["S-S"].absent) == (20, 10)


def test_slopes_and_their_errors_are_those_of_least_squares():
    rng = np.random.default_rng(2)
    bonds, labels = rng.integers(0, 6, (40, 2)), np.repeat([0, 1], 20)
    errors = bonds @ [0.3, -0.1] + np.array([5.0, -7.0])[labels] + rng.normal(0, 0.2, 40)
    fit = error_per_bond(errors, bonds, labels, ["a", "b"])
    design = np.column_stack([bonds, labels == 0, labels == 1]).astype(float)
    solution, (left,), _, _ = np.linalg.lstsq(design, errors)
    covariance = left / (40 - 4) * np.linalg.inv(design.T @ design)
    for k in range(2):
        assert fit.bonds[k].slope == pytest.approx(solution[k])
        assert fit.bonds[k].deviation == pytest.approx(covariance[k, k] ** 0.5)
    has = (bonds[:, 0] > 0).astype(float)
    design = np.column_stack([has, labels == 0, labels == 1]).astype(float)
    solution, (left,), _, _ = np.linalg.lstsq(design, errors)
    covariance = left / (40 - 3) * np.linalg.inv(design.T @ design)
    assert fit.bonds[0].difference == pytest.approx(solution[0])
    assert fit.bonds[0].difference_deviation == pytest.approx(covariance[0, 0] ** 0.5)


def test_what_the_structures_do_not_tell_is_left_open():
    """The first number never varies, the second and third go together, the fourth is by itself."""
    together = np.arange(8)
    bonds = np.column_stack([np.full(8, 2), together, 2 * together, together % 2])
    fit = error_per_bond(0.5 * (together % 2), bonds, np.zeros(8, dtype=np.int64), list("abcd"))
    assert [bond.slope for bond in fit.bonds[:3]] == [None, None, None]
    assert fit.bonds[3].slope == pytest.approx(0.5)
    assert fit.bonds[0].difference is None
    few = error_per_bond(np.array([0.0, 1.0]), np.array([[0], [1]]), np.zeros(2, dtype=np.int64), ["a"])
    assert (few.bonds[0].slope, few.bonds[0].difference, few.explained) == (None, None, None)
    none = error_per_bond(np.empty(0), np.empty((0, 1), dtype=int), np.empty(0, dtype=np.int64), ["a"])
    assert (none.n, none.bonds[0].slope) == (0, None)

"""Lattice constants against the lattice sums of Lennard-Jones and a minimum found another way."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa

from godelta.errors import GodeltaError
from godelta.systems.lattice import crystal, equilibrium, guess

A12, A6 = 12.13188, 14.45392  # lattice sums of fcc, Kittel's Introduction to Solid State Physics, table 4


def _of(make):
    def energies(crystals):
        values = []
        for atoms in crystals:
            atoms.calc = make()
            values.append(atoms.get_potential_energy())
        return np.array(values)

    return energies


def test_the_lattice_sums_of_lennard_jones():
    sigma, epsilon = 2.5, 0.3
    found = equilibrium("Ar", _of(lambda: LennardJones(sigma=sigma, epsilon=epsilon, rc=12 * sigma)), 4.0)
    nearest = sigma * (2 * A12 / A6) ** (1 / 6)
    assert found.constant == pytest.approx(np.sqrt(2) * nearest, rel=1e-3)
    assert found.energy == pytest.approx(-epsilon * A6**2 / (2 * A12), rel=2e-3)
    # B = V d²U/dV² of U = 2 ε [A12 (σ/r)¹² - A6 (σ/r)⁶] at its minimum, V = r³/√2
    second = 2 * epsilon * (12 * 13 * A12 * (sigma / nearest) ** 12 - 6 * 7 * A6 * (sigma / nearest) ** 6)
    modulus = second / (9 * nearest**3 / np.sqrt(2))
    assert found.bulk_modulus == pytest.approx(modulus / GPa, rel=0.02)


@pytest.mark.parametrize("start", [None, 3.2, 4.2])
def test_equals_a_relaxation_of_the_cell(start):
    found = equilibrium("Cu", _of(EMT), start)
    atoms = crystal("Cu", 3.7)
    atoms.calc = EMT()
    BFGS(FrechetCellFilter(atoms, hydrostatic_strain=True), logfile=None).run(fmax=1e-5)
    assert found.constant == pytest.approx((4 * atoms.cell.volume) ** (1 / 3), abs=5e-4)
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)


def test_guesses():
    assert guess("Cu") == pytest.approx(3.61)
    assert 3.0 < guess("Fe") < 4.5


def test_what_has_no_minimum_is_said():
    with pytest.raises(GodeltaError, match="no minimum of the energy up to"):
        equilibrium("Cu", lambda crystals: np.array([-float(c.cell.volume) for c in crystals]))
    with pytest.raises(GodeltaError, match="not finite"):
        equilibrium("Cu", lambda crystals: np.full(len(crystals), np.nan))


def test_the_crystal_is_primitive():
    assert isinstance(crystal("Au", 4.1), Atoms)
    assert crystal("Au", 4.0).cell.volume == pytest.approx(16.0)

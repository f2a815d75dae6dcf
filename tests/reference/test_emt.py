import numpy as np
import pytest
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from godelta.reference.isolated import evaluate_isolated
from godelta.reference.settings import EMTSettings


def test_relaxed_icosahedron_of_13_copper_atoms(tmp_path):
    atoms = Icosahedron("Cu", 2)
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=100)
    outcome = evaluate_isolated(atoms, EMTSettings(), tmp_path)
    assert outcome.energy == pytest.approx(9.3614, abs=2e-4)
    assert np.abs(outcome.forces).max() < 1e-3


def test_fixed_atoms_keep_their_forces(tmp_path):
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0)
    slab.rattle(0.1, seed=1)
    slab.calc = EMT()
    expected = slab.get_forces()
    slab.set_constraint(FixAtoms(mask=slab.get_tags() > 1))
    outcome = evaluate_isolated(slab, EMTSettings(), tmp_path)
    np.testing.assert_allclose(outcome.forces, expected, atol=1e-10)

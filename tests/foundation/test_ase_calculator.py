"""Any ASE calculator as foundation."""

import numpy as np
import pytest
from ase.build import fcc111
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron
from ase.constraints import FixAtoms

from godelta.errors import InputError
from godelta.foundation import ASEFoundationSettings, load_foundation


def test_equals_the_calculator_itself():
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    slab.set_constraint(FixAtoms([0, 1]))
    structures = [Icosahedron("Cu", 2), slab]
    batch = load_foundation(ASEFoundationSettings(calculator="ase.calculators.emt.EMT")).evaluate(structures)
    for atoms, energy, forces in zip(structures, batch.energies, batch.forces, strict=True):
        own = atoms.copy()
        own.calc = EMT()
        assert energy == pytest.approx(own.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(forces, own.get_forces(apply_constraint=False), atol=1e-10)
    assert structures[0].calc is None


@pytest.mark.parametrize(
    "path", ["ase.calculators.emt.Nothing", "no_such_package.Thing", "os.path.join", "EMT", "ase.Atoms"]
)
def test_what_is_no_calculator_is_refused(path):
    with pytest.raises(InputError, match=path.split(".")[-1]):
        load_foundation(ASEFoundationSettings(calculator=path))


def test_wrong_arguments_are_refused():
    settings = ASEFoundationSettings(calculator="ase.calculators.harmonic.HarmonicCalculator")
    with pytest.raises(InputError, match="arguments"):
        load_foundation(settings)

import numpy as np
import pytest
from ase.calculators.fd import calculate_numerical_forces

from godelta.delta.calculator import DeltaCalculator
from godelta.delta.model import DeltaModel, train
from godelta.delta.settings import DeltaSettings
from godelta.foundation import ASEFoundationSettings, load_foundation


@pytest.fixture
def foundation():
    settings = ASEFoundationSettings(calculator="ase.calculators.emt.EMT")
    return load_foundation(settings)


def test_energy_forces_and_uncertainty(cluster, foundation):
    structures = [cluster(k, "Ag4Au2", 2.2) for k in range(6)]
    base = foundation.evaluate(structures).energies
    reference = base + np.random.default_rng(0).normal(size=6)
    correction = train(DeltaSettings(), [47, 79], structures, base, reference, list("abcdef"))
    atoms = cluster(9, "Ag4Au2", 2.2)
    atoms.calc = DeltaCalculator(DeltaModel(foundation, correction))
    forces = atoms.get_forces()
    expected = correction.predict(atoms, uncertainty=True)
    assert atoms.calc.results["uncertainty"] == expected.uncertainty
    assert atoms.get_potential_energy() == pytest.approx(
        foundation.evaluate([atoms]).energies[0] + expected.energy, abs=1e-12
    )
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, 1e-3), atol=1e-4)


def test_without_a_correction_the_uncertainty_is_unknown(cluster, foundation):
    atoms = cluster(1, "Ag3Au", 2.2)
    atoms.calc = DeltaCalculator(DeltaModel(foundation))
    atoms.get_potential_energy()
    assert np.isnan(atoms.calc.results["uncertainty"])

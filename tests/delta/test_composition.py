"""Several stoichiometries share one Δ: constants per atom of a species are learned as such."""

import numpy as np
import pytest
from ase import Atoms

from godelta.delta.local_kernel import Environments
from godelta.delta.model import Correction, train
from godelta.delta.settings import DeltaSettings
from godelta.delta.soap import SOAP
from godelta.delta.sparse_gp import SparseGP

CHOICES = ("marginal_likelihood", "leave_one_out", "fixed")
SHIFT = np.array([3.7, -11.3, 250.0])  # eV per atom of each species


def environments(structures, species):
    soap = SOAP(DeltaSettings().soap, species)
    return [Environments(soap.features(a), soap.kinds(a)) for a in structures]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("inducing_points", [1000, 40])
def test_a_constant_per_species_shifts_another_stoichiometry_by_exactly_that(
    cluster, toy_energy, choice, inducing_points
):
    structures = [cluster(k, "Ag4S3" if k % 2 else "Ag3S4") for k in range(16)]
    others = [cluster(50 + k, formula) for k, formula in enumerate(("Ag6S2", "Ag2S5", "Ag5", "Ag4S3"))]
    X, new = environments(structures, [16, 47]), environments(others, [16, 47])
    y = np.array([toy_energy(a) for a in structures])
    settings = DeltaSettings(hyperparameters=choice, inducing_points=inducing_points)
    plain = SparseGP(2, settings).fit(X, y)
    shifted = SparseGP(2, settings).fit(X, y + plain.counts(X) @ SHIFT[:2])
    assert shifted.posterior_.noise == plain.posterior_.noise
    assert shifted.posterior_.amplitude == pytest.approx(plain.posterior_.amplitude, rel=1e-8)
    before, after = plain.predict(new, return_std=True), shifted.predict(new, return_std=True)
    np.testing.assert_allclose(after[0] - before[0], plain.counts(new) @ SHIFT[:2], rtol=0, atol=1e-7)
    np.testing.assert_allclose(after[1], before[1], rtol=1e-7)


def test_so_it_does_where_the_data_leave_some_compositions_open(cluster, toy_energy):
    formulas = ("Ag4S2Cu", "Ag3S2Cu2")
    structures = [cluster(k, formulas[k % 2]) for k in range(12)]
    X = environments(structures, [16, 29, 47])
    y = np.array([toy_energy(a) for a in structures])
    plain = SparseGP(3).fit(X, y)
    shifted = SparseGP(3).fit(X, y + plain.counts(X) @ SHIFT)
    # Ag7S4Cu3 is one of each; how much a lone atom of silver shifts, nobody has been told.
    between, elsewhere = environments([cluster(60, "Ag7S4Cu3"), cluster(61, "Ag4S2")], [16, 29, 47])
    change = shifted.predict([between]) - plain.predict([between])
    assert change[0] == pytest.approx(np.array([4, 3, 7]) @ SHIFT, abs=1e-6)
    before, after = (gp.predict([between, elsewhere], return_std=True)[1] for gp in (plain, shifted))
    assert after[0] == pytest.approx(before[0], rel=1e-7)
    assert after[1] > 10.0 * before[1]


@pytest.mark.parametrize("directions", [0, 1])
def test_a_trained_model_does_the_same_after_storage(cluster, toy_energy, directions):
    structures = [cluster(k, "Ag4S3" if k % 2 else "Ag3S4") for k in range(10)]
    energies = np.array([toy_energy(a) for a in structures])
    forces = [np.random.default_rng(k).normal(size=(7, 3)) for k in range(10)]
    ids, nothing = [f"{k:02d}" for k in range(10)], np.zeros(10)
    probe: Atoms = cluster(70, "Ag5S2")
    models = []
    for shift in (0.0, 1.0):
        added = np.array([np.sum(np.where(a.numbers == 16, 3.7, -11.3)) for a in structures])
        settings = DeltaSettings(force_directions=directions)
        correction = train(
            settings, [16, 47], structures, nothing, energies + shift * added, ids, residual_forces=forces
        )
        models.append(Correction.from_bytes(correction.to_bytes()))
        np.testing.assert_array_equal(models[-1].posterior.unseen, correction.posterior.unseen)
    first, second = (model.predict(probe, kappa=1.0) for model in models)
    assert second.energy - first.energy == pytest.approx(2 * 3.7 - 5 * 11.3, abs=1e-7)
    np.testing.assert_allclose(second.forces, first.forces, atol=1e-7)
    assert second.uncertainty == pytest.approx(first.uncertainty, rel=1e-7)

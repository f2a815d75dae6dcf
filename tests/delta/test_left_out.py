"""Leaving an evaluation out, against training without it."""

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.cluster import Octahedron

from godelta.delta.left_out import LeftOut, uncertainty_scale
from godelta.delta.model import Correction, train
from godelta.delta.settings import DeltaSettings


def test_errors_and_deviations_are_those_of_training_without_it(cluster, toy_energy):
    structures = [cluster(seed) for seed in range(12)]
    rng = np.random.default_rng(0)
    reference = np.array([toy_energy(atoms) for atoms in structures])
    reference -= reference.mean()
    # The usual energy of a composition centres the prior: data on both sides of it leave it where it is.
    reference[:2] = reference.min() - 1.0, reference.max() + 1.0
    ids = [f"s{k:02}" for k in range(12)]
    forces = [rng.normal(size=(len(atoms), 3)) for atoms in structures]
    model = train(DeltaSettings(), [16, 47], structures, np.zeros(12), reference, ids, residual_forces=forces)
    found = model.left_out
    assert found.errors.shape == found.deviations.shape == found.inside.shape == (12,)
    left = model.metrics
    inside = found.inside
    assert left["loo_rmse_ev"] == pytest.approx(np.sqrt(np.mean(found.errors[inside] ** 2)))
    z = found.errors[inside] / found.deviations[inside]
    assert left["loo_z_rms"] == pytest.approx(np.sqrt(np.mean(z**2)))
    assert 0.0 < left["loo_z_rms"] < 10.0


def _left_out(z, inside=None):
    z = np.asarray(z, dtype=float)
    inside = np.ones(len(z), dtype=bool) if inside is None else np.asarray(inside)
    return LeftOut(0.1 * z, np.full(len(z), 0.1), inside, np.zeros((len(z), 3)))


def test_deviations_are_scaled_to_the_errors():
    rng = np.random.default_rng(0)
    z = 2.5 * rng.normal(size=4000)
    assert uncertainty_scale(_left_out(z)) == pytest.approx(2.5, rel=0.05)
    assert uncertainty_scale(_left_out([4.0, -4.0, 4.0, 4.0])) == pytest.approx(4.0 ** (4 / 9))
    assert uncertainty_scale(_left_out(0.3 * z)) == 1.0
    assert uncertainty_scale(_left_out([])) == 1.0
    wild = [*rng.normal(size=30), 1e4]
    assert uncertainty_scale(_left_out(wild)) < 1.5
    outside = np.arange(31) < 30
    assert uncertainty_scale(_left_out(wild, outside)) == uncertainty_scale(_left_out(wild[:30]))


@pytest.mark.parametrize("settings", [{}, {"force_directions": 0}, {"hyperparameters": "leave_one_out"}])
def test_uncertainties_fit_the_errors_elsewhere(settings):
    """Distorted clusters of EMT: the kernel knows no long range, so that something is left over."""
    structures = [_distorted(seed) for seed in range(110)]
    energies = np.array([atoms.get_potential_energy() for atoms in structures])
    forces = [atoms.get_forces() for atoms in structures]
    ids = [f"{k:03d}" for k in range(40)]
    nothing = np.zeros(40)
    known = structures[:40], nothing, energies[:40], ids
    model = train(DeltaSettings(**settings), [29, 47], *known, residual_forces=forces[:40])
    assert model.posterior.discrepancy == model.posterior.noise
    assert model.hyperparameters["uncertainty_scale"] == model.posterior.scale >= 1.0
    predictions = [model.predict(atoms, uncertainty=True) for atoms in structures[40:]]
    errors = np.array([p.energy for p in predictions]) - energies[40:]
    z = errors / [p.uncertainty for p in predictions]
    assert 0.2 < np.sqrt(np.mean(z**2)) < 1.6
    again = Correction.from_bytes(model.to_bytes())
    assert again.posterior.scale == model.posterior.scale
    assert again.predict(structures[50], uncertainty=True).uncertainty == predictions[10].uncertainty
    np.testing.assert_array_equal(again.left_out.influence, model.left_out.influence)


def test_fixed_hyperparameters_are_left_alone(cluster, toy_energy):
    structures = [cluster(seed) for seed in range(6)]
    energies = 10.0 * np.array([toy_energy(atoms) for atoms in structures])
    ids = [str(k) for k in range(6)]
    model = train(DeltaSettings(preset="paper"), [16, 47], structures, np.zeros(6), energies, ids)
    assert (model.posterior.scale, model.posterior.discrepancy, model.posterior.amplitude) == (1.0, 0.0, 1.0)


def _distorted(seed):
    rng = np.random.default_rng(seed)
    atoms = Octahedron("Cu", 3, 1)
    atoms.numbers[rng.choice(len(atoms), 4, replace=False)] = 47
    atoms.positions += rng.normal(scale=0.2, size=(len(atoms), 3))
    atoms.calc = EMT()
    return atoms

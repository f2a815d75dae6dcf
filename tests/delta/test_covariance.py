"""Virtual observations, against retraining with the structure among the data."""

import numpy as np
import pytest

from godelta.delta.covariance import VirtualObservations
from godelta.delta.local_kernel import Environments
from godelta.delta.model import train
from godelta.delta.settings import DeltaSettings

FIXED = {"hyperparameters": "fixed", "length_scale": 1.0, "noise": 1e-3, "amplitude": 0.3}


def seen(correction, structures):
    described = [correction.soap.describe(atoms) for atoms in structures]
    return [Environments(features, context.kinds) for features, context in described]


def fit(structures, toy_energy, count, **settings):
    energies = np.array([toy_energy(atoms) for atoms in structures[:count]])
    ids = [f"{k:02d}" for k in range(count)]
    return train(DeltaSettings(**settings), [16, 47], structures[:count], np.zeros(count), energies, ids)


@pytest.fixture
def structures(cluster):
    return [cluster(seed, "Ag4S3" if seed % 2 else "Ag3S3") for seed in range(14)]


@pytest.mark.parametrize("changes", [{}, {"species_kernels": False, "species_mean": False}], ids=str)
def test_deviations_are_those_of_predictions(structures, toy_energy, changes):
    correction = fit(structures, toy_energy, 8, **changes)
    virtual = VirtualObservations(correction, seen(correction, structures))
    expected = [correction.predict(atoms, uncertainty=True).uncertainty for atoms in structures]
    np.testing.assert_allclose(virtual.totals, expected, rtol=1e-6)
    beyond = correction.hyperparameters["discrepancy"] ** 2 * np.array([len(a) for a in structures])
    np.testing.assert_allclose(virtual.deviations**2 + beyond, np.square(expected), rtol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"species_kernels": False, "species_mean": False}], ids=str)
def test_an_observation_lowers_deviations_as_training_on_it_does(structures, toy_energy, changes):
    """With fixed hyper-parameters the deviations depend on where the data are, not on what they say."""
    before = fit(structures, toy_energy, 8, **FIXED, **changes)
    after = fit(structures, toy_energy, 10, **FIXED, **changes)
    rest = structures[8:]
    virtual = VirtualObservations(before, seen(before, rest))
    first = virtual.deviations
    virtual.observe(0)
    virtual.observe(1)
    expected = [after.predict(atoms, uncertainty=True).uncertainty for atoms in rest]
    # Training chooses its inducing points anew, and with few atoms takes all: exact on both sides but for
    # what the points of the two new structures add to the sparse model.
    np.testing.assert_allclose(virtual.deviations, expected, rtol=0.02)
    assert (virtual.deviations <= first + 1e-12).all()
    assert virtual.deviations[0] < 0.5 * first[0]


def test_covariances_are_symmetric_and_those_of_a_distribution(structures, toy_energy):
    correction = fit(structures, toy_energy, 6)
    virtual = VirtualObservations(correction, seen(correction, structures[6:]))
    C = np.array([virtual.covariances(k) for k in range(8)])
    np.testing.assert_allclose(C, C.T, atol=1e-12)
    assert np.linalg.eigvalsh(C).min() > -1e-9
    virtual.observe(3)
    after = np.array([virtual.covariances(k) for k in range(8)])
    noise = correction.posterior.amplitude**2 * correction.posterior.noise * len(structures[9])
    np.testing.assert_allclose(after, C - np.outer(C[3], C[3]) / (C[3, 3] + noise), atol=1e-10)


def test_a_copy_of_what_is_taken_has_nothing_to_tell(structures, toy_energy):
    correction = fit(structures, toy_energy, 6)
    twin = structures[10].copy()
    twin.rotate(40.0, "x", center="COP")
    virtual = VirtualObservations(correction, seen(correction, [structures[10], twin, structures[11]]))
    before = virtual.deviations
    virtual.observe(0)
    assert virtual.deviations[1] == pytest.approx(virtual.deviations[0], rel=1e-4)
    assert virtual.deviations[1] < 0.4 * before[1]
    assert virtual.deviations[2] > virtual.deviations[1]

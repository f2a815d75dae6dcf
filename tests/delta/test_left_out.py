"""Leaving an evaluation out, against training without it."""

import numpy as np
import pytest

from godelta.delta.model import train
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

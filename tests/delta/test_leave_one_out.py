"""Hyper-parameters by leaving out, against training without what is left out."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from godelta.delta import leave_one_out, regression
from godelta.delta.local_kernel import Environments
from godelta.delta.model import train
from godelta.delta.settings import DeltaSettings
from godelta.delta.soap import SOAP
from godelta.delta.sparse_gp import SparseGP

OWNERS = {
    "alone": None,
    "with_copies": np.array([0, 1, 2, 0, 1, 5, 6, 7, 0, 9, 10, 11, 11, 1]),
}


def predictive(G, t, noise, amplitude, owners):
    """Log predictive probability from its definition: the rest is trained on, the block is predicted."""
    owners = np.arange(len(t)) if owners is None else owners
    total = 0.0
    for owner in np.unique(owners):
        out, rest = np.flatnonzero(owners == owner), np.flatnonzero(owners != owner)
        B = G[rest] @ G[rest].T + noise * np.eye(len(rest))
        cross = G[out] @ G[rest].T
        mean = cross @ np.linalg.solve(B, t[rest])
        covariance = G[out] @ G[out].T + noise * np.eye(len(out)) - cross @ np.linalg.solve(B, cross.T)
        total += multivariate_normal.logpdf(t[out], mean, amplitude**2 * covariance)
    return total


def noise_prior(noise):
    return -0.5 * (np.log10(noise / regression.PRIOR_NOISE) / regression.PRIOR_NOISE_DECADES) ** 2


@pytest.mark.parametrize("owners", OWNERS.values(), ids=OWNERS)
@pytest.mark.parametrize("rank", [30, 5], ids=["dual", "primal"])
def test_it_is_the_predictive_probability_of_what_is_left_out(owners, rank):
    rng = np.random.default_rng(0)
    G, t = rng.normal(size=(14, rank)), rng.normal(size=14)
    spectrum, noises = regression.spectrum(G), np.geomspace(1e-3, 1.0, 7)
    expected = np.array([predictive(G, t, noise, 0.7, owners) + noise_prior(noise) for noise in noises])
    constant = 0.5 * len(t) * np.log(2 * np.pi)
    for noise, value in zip(noises, expected, strict=True):
        one = leave_one_out.fit_hyperparameters(spectrum, t, np.array([noise]), 0.7, owners)
        assert one.log_evidence == pytest.approx(value + constant, rel=1e-9)
    chosen = leave_one_out.fit_hyperparameters(spectrum, t, noises, 0.7, owners)
    assert chosen.noise == noises[np.argmax(expected)]


def test_the_profiled_amplitude_is_the_best_one():
    rng = np.random.default_rng(1)
    G, t = rng.normal(size=(14, 30)), 3.0 * rng.normal(size=14)
    chosen = leave_one_out.fit_hyperparameters(regression.spectrum(G), t, np.array([0.01]), None)
    assert chosen.amplitude > regression.AMPLITUDE_FLOOR

    def posterior(s):
        prior = regression.PRIOR_STRENGTH * (np.log(s**2) + (regression.PRIOR_AMPLITUDE / s) ** 2)
        return predictive(G, t, 0.01, s, None) - 0.5 * prior

    assert posterior(chosen.amplitude) > max(posterior(chosen.amplitude * f) for f in (0.98, 1.02))


def test_the_sparse_gp_chooses_as_training_again_would(cluster, toy_energy):
    structures = [cluster(k, "Ag4S3" if k % 2 else "Ag3S3") for k in range(20)]
    soap = SOAP(DeltaSettings().soap, [16, 47])
    X = [Environments(soap.features(a), soap.kinds(a)) for a in structures]
    y = np.array([toy_energy(a) for a in structures])
    gp = SparseGP(2, DeltaSettings(hyperparameters="leave_one_out", inducing_points=60)).fit(X, y)
    counts = gp.counts(X)
    G = gp.kernel_.whiten(np.hstack([gp.rows_, gp.posterior_.mean_scale * counts]))
    d = np.sqrt(counts.sum(axis=1))
    G, t = G / d[:, None], (y - counts @ gp.posterior_.mean) / d
    strength, usual = regression.PRIOR_STRENGTH, regression.PRIOR_AMPLITUDE
    noises = np.geomspace(regression.NOISE_FLOOR, 1.0, 26)
    values = []
    for noise in noises:
        fitted = leave_one_out.fit_hyperparameters(regression.spectrum(G), t, np.array([noise]), None)
        misfit = len(t) * fitted.data_amplitude**2
        best = np.sqrt((strength * usual**2 + misfit) / (strength + len(t)))  # before the floor
        prior = noise_prior(noise) - strength * (np.log(best) + 0.5 * (usual / best) ** 2)
        values.append(predictive(G, t, noise, best, None) + prior)
    assert gp.posterior_.noise == pytest.approx(noises[int(np.argmax(values))], rel=1e-12)
    errors = gp.predict(X) - y
    assert np.sqrt(np.mean(errors**2)) < 0.1 * np.std(y)


def test_a_model_of_forces_can_choose_by_leaving_out(cluster, toy_energy):
    structures = [cluster(k) for k in range(8)]
    energies = [toy_energy(a) for a in structures]
    forces = [np.random.default_rng(k).normal(size=(7, 3)) for k in range(8)]
    ids = [f"{k}" for k in range(8)]
    for directions in (0, 2):
        settings = DeltaSettings(hyperparameters="leave_one_out", force_directions=directions)
        correction = train(settings, [16, 47], structures, np.zeros(8), energies, ids, residual_forces=forces)
        again = type(correction).from_bytes(correction.to_bytes())
        assert again.settings == settings
        assert len(correction.training.ids) == 8 * (1 + directions)
        assert np.isfinite(correction.metrics["log_evidence"])

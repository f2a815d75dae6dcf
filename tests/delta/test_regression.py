import numpy as np
import pytest

from godelta.delta import regression
from godelta.delta.local_kernel import Environments
from godelta.delta.settings import DeltaSettings
from godelta.delta.soap import SOAP
from godelta.delta.sparse_gp import SparseGP


@pytest.fixture(params=[(12, 30), (40, 9)], ids=["dual", "primal"])
def problem(request):
    n, r = request.param
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, r)), rng.normal(size=n)


def test_solution_equals_dense_algebra(problem):
    G, t = problem
    noise = 0.03
    solution = regression.solve(G, t, noise)
    B = G @ G.T + noise * np.eye(len(t))
    g = np.random.default_rng(1).normal(size=G.shape[1])
    assert g @ solution.weights == pytest.approx(g @ G.T @ np.linalg.solve(B, t), rel=1e-9)
    seen = solution.projection @ g
    assert seen @ seen == pytest.approx(g @ G.T @ np.linalg.solve(B, G @ g), rel=1e-9)


def test_leave_one_out_equals_leaving_one_out(problem):
    G, t = problem
    noise = 0.03
    solution = regression.solve(G, t, noise)
    for k in (0, 3, len(t) - 1):
        rest = np.arange(len(t)) != k
        B = G[rest] @ G[rest].T + noise * np.eye(len(t) - 1)
        cross = G[rest] @ G[k]
        mean, variance = cross @ np.linalg.solve(B, t[rest]), G[k] @ G[k] - cross @ np.linalg.solve(B, cross)
        assert solution.loo_residuals[k] == pytest.approx(t[k] - mean, rel=1e-8)
        assert solution.loo_variances[k] == pytest.approx(variance + noise, rel=1e-8)


@pytest.mark.parametrize("strength", [regression.PRIOR_STRENGTH, 30.0])
@pytest.mark.parametrize("amplitude", [None, 0.7])
def test_evidence_equals_dense_algebra(problem, amplitude, strength):
    G, t = problem
    noises = np.array([0.1, 0.5])
    spectrum = regression.spectrum(G)
    expected = {}
    for noise in noises:
        B = G @ G.T + noise * np.eye(len(t))
        misfit, log_det = t @ np.linalg.solve(B, t), np.linalg.slogdet(B)[1]
        prior = -0.5 * (np.log10(noise / regression.PRIOR_NOISE) / regression.PRIOR_NOISE_DECADES) ** 2
        if amplitude is None:
            scale = strength * regression.PRIOR_AMPLITUDE**2 + misfit
            dof = strength + len(t)
            expected[noise] = (prior - 0.5 * log_det - 0.5 * dof * np.log(scale), np.sqrt(scale / dof))
        else:
            value = prior - 0.5 * (log_det + misfit / amplitude**2 + len(t) * np.log(amplitude**2))
            expected[noise] = (value, amplitude)
    chosen = regression.fit_hyperparameters(spectrum, t, noises, amplitude, strength)
    best = max(expected, key=lambda noise: expected[noise][0])
    assert chosen.noise == best
    assert (chosen.log_evidence, chosen.amplitude) == pytest.approx(expected[best], rel=1e-9)


def test_noise_and_amplitude_are_recovered():
    rng = np.random.default_rng(0)
    G = rng.normal(size=(300, 100))
    amplitude, noise = 0.4, 1.0
    t = amplitude * (G @ rng.normal(size=100) + np.sqrt(noise) * rng.normal(size=300))
    chosen = regression.fit_hyperparameters(regression.spectrum(G), t, np.geomspace(1e-3, 1e3, 25), None)
    assert chosen.amplitude == pytest.approx(amplitude, rel=0.15)
    assert chosen.noise == pytest.approx(noise, rel=1.0)


def test_the_amplitude_survives_data_that_the_mean_explains():
    G = np.random.default_rng(0).normal(size=(1, 4))
    one = regression.fit_hyperparameters(regression.spectrum(G), np.zeros(1), np.array([1e-5]), None)
    assert one.amplitude > 0.05
    G = np.random.default_rng(0).normal(size=(50, 200))
    many = regression.fit_hyperparameters(regression.spectrum(G), np.zeros(50), np.array([1e-5]), None)
    assert many.amplitude >= regression.AMPLITUDE_FLOOR


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_more_structures_than_inducing_points_have_the_same_posterior(cluster, toy_energy, preset):
    structures = [cluster(k, "Ag4S3" if k % 2 else "Ag3S4") for k in range(120)]
    settings = DeltaSettings(preset=preset, inducing_points=50)
    soap = SOAP(settings.soap, [16, 47])
    X = [Environments(soap.features(a), soap.kinds(a)) for a in structures]
    y = np.array([toy_energy(a) for a in structures])
    gp = SparseGP(2, settings).fit(X[:100], y[:100])
    p, counts = gp.posterior_, gp.counts(X)
    rows = gp.kernel_.rows(X)
    G = gp.kernel_.whiten(np.hstack([rows, p.mean_scale * counts]))
    d = np.sqrt(counts.sum(axis=1))
    training, t = G[:100] / d[:100, None], (y[:100] - counts[:100] @ p.mean) / d[:100]
    B = training @ training.T + p.noise * np.eye(100)  # the dual form, in N dimensions
    cross = G[100:] @ training.T
    mean = counts[100:] @ p.mean + cross @ np.linalg.solve(B, t)
    explained = np.einsum("ij,ji->i", cross, np.linalg.solve(B, cross.T))
    np.testing.assert_allclose(gp.predict(X[100:]), mean, rtol=0, atol=1e-8)
    seen = np.hstack([rows[100:], p.mean_scale * counts[100:]]) @ p.projection.T
    np.testing.assert_allclose(np.sum(seen**2, axis=1), explained, rtol=1e-8)

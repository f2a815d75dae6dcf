import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_predict

from godelta.delta.local_kernel import Environments
from godelta.delta.settings import DeltaSettings
from godelta.delta.soap import SOAP
from godelta.delta.sparse_gp import SparseGP


@pytest.fixture
def data(cluster, toy_energy):
    """Environments and energies of clusters of two compositions."""
    settings = DeltaSettings(soap="paper")
    soap = SOAP(settings.soap, [16, 47])
    structures = [cluster(k, "Ag4S3" if k % 2 else "Ag3S3") for k in range(24)]
    X = [Environments(soap.features(a), soap.kinds(a)) for a in structures]
    return X, np.array([toy_energy(a) for a in structures])


def test_it_learns(data):
    X, y = data
    gp = SparseGP(2).fit(X[:20], y[:20])
    energies, deviations = gp.predict(X[20:], return_std=True)
    assert np.abs(energies - y[20:]).max() < 0.25 * np.ptp(y)
    assert (deviations > 0.0).all()
    _, seen = gp.predict(X[:20], return_std=True)
    assert seen.max() < deviations.min()


def test_scikit_learn_tools_apply(data):
    X, y = data
    gp = SparseGP(2, DeltaSettings(inducing_points=30))
    copy = clone(gp)
    assert copy.get_params() == gp.get_params()
    errors = cross_val_predict(copy, X, y, cv=4) - y
    assert np.sqrt(np.mean(errors**2)) < np.std(y)
    assert gp.fit(X, y).score(X, y) > 0.9


def test_fit_and_prediction_are_deterministic(data):
    X, y = data
    settings = DeltaSettings(inducing_points=40)
    first, second = (SparseGP(2, settings).fit(X, y).predict(X, return_std=True) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_few_inducing_points_approach_the_exact_model(data):
    X, y = data
    fixed = {"hyperparameters": "fixed", "length_scale": 30.0, "noise": 1e-3, "amplitude": 0.1}
    exact = SparseGP(2, DeltaSettings(**fixed)).fit(X[:20], y[:20]).predict(X[20:])
    errors = []
    for count in (10, 40, 100):
        sparse = SparseGP(2, DeltaSettings(inducing_points=count, **fixed)).fit(X[:20], y[:20])
        assert sparse.kernel_.size == count
        errors.append(np.abs(sparse.predict(X[20:]) - exact).max())
    assert errors[2] < errors[0]
    assert errors[2] < 0.02


def test_one_structure(data):
    X, y = data
    gp = SparseGP(2).fit(X[:1], y[:1])
    energy, deviation = gp.predict(X[:3], return_std=True)
    assert energy[0] == pytest.approx(y[0], abs=1e-6)
    assert deviation[0] < 0.05
    assert deviation[2] > 0.1
    assert gp.diagnostics_.loo_rmse is None


def test_leave_one_out_errors_equal_refits(data):
    X, y = data
    settings = DeltaSettings(hyperparameters="fixed", length_scale=30.0, noise=1e-2, amplitude=0.2)
    gp = SparseGP(2, settings).fit(X, y)
    # The prior mean is a guess from all data: refit with the very same rows and mean, one structure less.
    counts, errors = gp.counts(X), []
    for k in range(len(X)):
        rest = np.arange(len(X)) != k
        K = gp.kernel_.whiten(np.hstack([gp.rows_, gp.posterior_.mean_scale * counts]))
        K = K @ K.T
        noise = np.diag(settings.noise * counts.sum(axis=1))
        t = y - counts @ gp.posterior_.mean
        errors.append(t[k] - K[k, rest] @ np.linalg.solve((K + noise)[np.ix_(rest, rest)], t[rest]))
    assert gp.diagnostics_.loo_rmse == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-6)


@pytest.mark.parametrize("high_reference", [True, False])
def test_one_bad_structure_does_not_wreck_the_model(data, cluster, high_reference):
    X, y = data[0][1::2], data[1][1::2]
    soap = SOAP(DeltaSettings(soap="paper").soap, [16, 47])
    clash = cluster(50)
    clash.positions[1] = clash.positions[0] + [0.0, 0.0, 1.1]
    X_bad = [*X, Environments(soap.features(clash), soap.kinds(clash))]
    excess = np.append(np.zeros(len(y)), 50.0) if high_reference else None
    good = SparseGP(2).fit(X, y)
    bad = SparseGP(2).fit(X_bad, np.append(y, 50.0), excess)
    assert bad.diagnostics_.n_inside == len(y)
    p, q = bad.posterior_, good.posterior_
    assert p.amplitude / p.scale == pytest.approx(q.amplitude / q.scale, rel=0.3)
    assert p.scale < 3.0
    spread = np.ptp(y)
    assert np.abs(bad.predict(X) - y).max() < 0.5 * spread
    others = [Environments(soap.features(a), soap.kinds(a)) for a in (cluster(60), cluster(61))]
    assert np.abs(bad.predict(others) - good.predict(others)).max() < 0.5 * spread
    # A high energy has to be known as high only; a hole of the foundation has to be filled.
    rise = bad.predict(X_bad[-1:])[0] - good.predict(X_bad[-1:])[0]
    assert rise > (3.0 if high_reference else 10.0)


def test_a_bad_structure_like_the_others_is_not_believed(data):
    X, y = data[0][1::2], data[1][1::2].copy()
    good = SparseGP(2).fit(X[:-1], y[:-1])
    y[-1] += 50.0
    bad = SparseGP(2).fit(X, y)
    np.testing.assert_allclose(bad.predict(X[:-1]), good.predict(X[:-1]), atol=0.3)


def test_a_deep_residual_is_believed(data):
    X, y = data[0][1::2], data[1][1::2].copy()
    y[5] -= 8.0
    gp = SparseGP(2).fit(X, y)
    assert gp.diagnostics_.n_inside == len(y)
    assert gp.predict(X[5:6])[0] < y.max() - 3.0


def test_large_energy_offsets_cost_no_accuracy(data):
    X, y = data
    offset = np.array([np.sum(np.where(x.kinds == 0, -270.0, -4000.0)) for x in X])
    plain = SparseGP(2).fit(X[:20], y[:20]).predict(X[20:])
    shifted = SparseGP(2).fit(X[:20], y[:20] + offset[:20]).predict(X[20:])
    np.testing.assert_allclose(shifted - offset[20:], plain, atol=0.1)

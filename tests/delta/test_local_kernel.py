import numpy as np
import pytest

from godelta.delta.local_kernel import Environments, LocalKernel


@pytest.fixture(params=[(7, 63), (1, 5), (12, 16)], ids=str)
def case(request):
    n, f = request.param
    rng = np.random.default_rng(n)
    environments = Environments(rng.normal(size=(n, f)) + 30.0, np.arange(n) % 3)
    kernel = LocalKernel((rng.normal(size=(300, f)) + 30.0, rng.normal(size=(41, f)), np.zeros((0, f))), 2.5)
    return environments, kernel


def dense(environments, kernel):
    """(n, M) kernel of each atom with each inducing point, zero for other species."""
    columns = []
    for b, points in enumerate(kernel.inducing):
        squared = np.sum((environments.features[:, None] - points[None]) ** 2, axis=-1)
        columns.append(np.exp(-0.5 * squared / kernel.length_scale**2) * (environments.kinds == b)[:, None])
    return np.hstack(columns)


def test_rows_and_derivatives(case):
    environments, kernel = case
    weights = np.random.default_rng(0).normal(size=kernel.size)
    values = kernel.values(environments)
    K = dense(environments, kernel)
    np.testing.assert_allclose(kernel.row(values), K.sum(axis=0), rtol=1e-10, atol=1e-13)
    total, gradient = kernel.pull_back(values, weights, environments.features.shape)
    assert total == pytest.approx(K.sum(axis=0) @ weights, rel=1e-10)
    points = np.vstack(kernel.inducing)
    expected = ((K * weights) @ points - (K @ weights)[:, None] * environments.features) / 2.5**2
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_self_covariance_and_its_derivative(case):
    environments, kernel = case
    x, kinds = environments.features, environments.kinds
    K = np.exp(-0.5 * np.sum((x[:, None] - x[None]) ** 2, axis=-1) / 2.5**2) * (kinds[:, None] == kinds)
    values = kernel.values(environments)
    total, matrices = kernel.self_values(values)
    assert total == pytest.approx(K.sum(), rel=1e-10)
    gradient = kernel.self_gradient(values, matrices, x.shape)
    expected = 2.0 * (K @ x - K.sum(axis=1)[:, None] * x) / 2.5**2
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9)


def test_whitening_inverts_the_cholesky_factor(case):
    _, kernel = case
    rows = np.random.default_rng(1).normal(size=(4, kernel.size + 2))
    white = kernel.whiten(rows)
    np.testing.assert_array_equal(white[:, -2:], rows[:, -2:])
    back = np.hstack(
        [part @ L.T for part, L in zip(np.split(white[:, :-2], [300], axis=1), kernel.factors, strict=False)]
    )
    np.testing.assert_allclose(back, rows[:, :-2], atol=1e-9)
    unwhite = kernel.unwhiten(rows)
    forth = np.hstack(
        [part @ L for part, L in zip(np.split(unwhite[:, :-2], [300], axis=1), kernel.factors, strict=False)]
    )
    np.testing.assert_allclose(forth, rows[:, :-2], atol=1e-9)

"""Linear algebra of the sparse GP in whitened coordinates: evidence, solution, leave-one-out.

With G = diag(1/d) K_NM L^-T (N, r) and t = (y - prior mean)/d, the model is t ~ N(0, s² B) with
B = G G^T + lambda I. N <= r is solved in N dimensions, N > r by QR in r dimensions; never by the normal
equations, which square a condition number of 1e10.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular

from godelta.arrays import FloatArray, IntArray

NOISE_FLOOR = 1e-5  # relative noise variance; the evidence runs to zero noise when there are few data
PRIOR_AMPLITUDE = 0.2  # eV per atom: how wrong a foundation is before anything is known
PRIOR_STRENGTH = 2.0  # worth this many observations
PRIOR_DERIVATIVES = 5.0  # and the derivatives of this many evaluations, where derivatives are learnt
PRIOR_NOISE = 1e-3  # reference energies are nearly exact: noise must not stand in for what can be learned
PRIOR_NOISE_DECADES = 1.0
AMPLITUDE_FLOOR = 0.25  # eV per atom: data of one composition must not argue the uncertainty away


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Eigenvalues (r,) of G G^T that may differ from zero, and their vectors (N, r).

    axes: (r, r) right singular vectors of G, by rows, where N > r.
    """

    values: FloatArray
    vectors: FloatArray
    axes: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Amplitude s in eV per atom, relative noise lambda, and the log evidence that they reach.

    Where they were chosen by leaving out, log_evidence is the log predictive probability instead.
    data_amplitude is what s would be without its prior and floor.
    """

    amplitude: float
    data_amplitude: float
    noise: float
    log_evidence: float


@dataclass(frozen=True, slots=True)
class Solution:
    """weights (r,), projection (min(N, r), r), and leave-one-out residuals and variances/s² (N,) of t.

    influence: (owners, r), one row for each owner in the order of its index: a prediction for g is
    g . influence higher than it would be without the data of that owner.
    """

    weights: FloatArray
    projection: FloatArray
    loo_residuals: FloatArray
    loo_variances: FloatArray
    influence: FloatArray


def spectrum(G: FloatArray) -> Spectrum:
    """Spectrum of G G^T for G (N, r)."""
    if len(G) <= G.shape[1]:
        values, vectors = np.linalg.eigh(G @ G.T)
        return Spectrum(np.maximum(values, 0.0), vectors)
    q, upper = qr(G, mode="economic")
    left, singular, axes = np.linalg.svd(upper)
    return Spectrum(singular**2, q @ left, axes)


def fit_hyperparameters(
    spectrum_: Spectrum,
    t: FloatArray,
    noises: FloatArray,
    amplitude: float | None,
    strength: float = PRIOR_STRENGTH,
) -> Hyperparameters:
    """The noise among `noises` with the highest evidence; the amplitude is profiled unless given.

    The profiled amplitude has an inverse-gamma prior around `PRIOR_AMPLITUDE`, worth `strength` data, and a
    floor, so that it survives one datum, or data that the prior mean explains.
    """
    projected = spectrum_.vectors.T @ t
    missing = len(t) - len(projected)  # eigenvalues that are zero when N > r
    rest = max(float(t @ t - projected @ projected), 0.0) if missing else 0.0
    best: Hyperparameters | None = None
    for noise in noises:
        shifted = spectrum_.values + noise
        misfit = float(np.sum(projected**2 / shifted)) + rest / noise
        log_det = float(np.sum(np.log(shifted))) + missing * float(np.log(noise))
        candidate = profile(misfit, log_det, len(t), float(noise), amplitude, strength)
        if best is None or candidate.log_evidence > best.log_evidence:
            best = candidate
    if best is None:
        raise ValueError("no noise level to choose from")
    return best


def profile(
    misfit: float,
    log_det: float,
    n_data: int,
    noise: float,
    amplitude: float | None,
    strength: float = PRIOR_STRENGTH,
) -> Hyperparameters:
    """The best amplitude, unless it is given, for N data with -2 log p = misfit/s² + log_det + N log s²."""
    if amplitude is None:
        scale = strength * PRIOR_AMPLITUDE**2 + misfit
        dof = strength + n_data
        variance = max(scale / dof, AMPLITUDE_FLOOR**2)
        evidence = -0.5 * log_det - 0.5 * dof * float(np.log(scale))
    else:
        variance = amplitude**2
        evidence = -0.5 * log_det - 0.5 * (misfit / variance + n_data * float(np.log(variance)))
    evidence -= 0.5 * float(np.log10(noise / PRIOR_NOISE) / PRIOR_NOISE_DECADES) ** 2
    return Hyperparameters(float(np.sqrt(variance)), float(np.sqrt(misfit / n_data)), noise, evidence)


def solve(
    G: FloatArray,
    t: FloatArray,
    noise: float,
    owners: IntArray | None = None,
    known: Spectrum | None = None,
) -> Solution:
    """Posterior for G (N, r), t (N,): mean = g . weights, variance/s² = k** - |projection g|².

    Data with the same owner (N,) are left out together; by default each has its own. known: `spectrum(G)`,
    where it has been computed.
    """
    if len(G) <= G.shape[1]:
        B = G @ G.T
        B[np.diag_indices(len(B))] += noise
        L = np.linalg.cholesky(B)
        projection = solve_triangular(L, G, lower=True)
        half = solve_triangular(L, t, lower=True)
        weights = projection.T @ half
        inverse = solve_triangular(L, np.eye(len(L)), lower=True)
        left, right, offset = inverse.T, inverse, 0.0
        residual = inverse.T @ half
        solved = inverse.T, projection  # their product is B^-1 G
    else:
        known = spectrum(G) if known is None or known.axes is None else known
        values, vectors, axes = known.values, known.vectors, known.axes
        assert axes is not None  # N > r
        singular, shifted = np.sqrt(values), values + noise
        projection = (singular / np.sqrt(shifted))[:, None] * axes
        projected = vectors.T @ t
        weights = axes.T @ (singular / shifted * projected)
        left, right, offset = -vectors * (values / shifted / noise), vectors.T, 1.0 / noise
        residual = (t - vectors @ (values / shifted * projected)) / noise
        solved = vectors, (singular / shifted)[:, None] * axes
    names, group = np.unique(np.arange(len(t)) if owners is None else owners, return_inverse=True)
    errors, variances = _leave_out(left, right, offset, residual, owners)
    summed = np.zeros((len(names), solved[0].shape[1]))
    np.add.at(summed, group.reshape(-1), errors[:, None] * solved[0])
    return Solution(weights, projection, errors, variances, summed @ solved[1])


def _leave_out(
    left: FloatArray, right: FloatArray, offset: float, residual: FloatArray, owners: IntArray | None
) -> tuple[FloatArray, FloatArray]:
    """Errors (N,) and variances/s² (N,) of data left out with all of the same owner.

    B^-1 is left @ right + offset I, residual (N,) is B^-1 t. For a block g left out (Rasmussen and Williams,
    section 5.4.2, for one datum): errors = (B^-1)_gg^-1 (B^-1 t)_g, covariance = (B^-1)_gg^-1.
    """
    precision = np.einsum("ij,ji->i", left, right) + offset
    errors, variances = residual / precision, 1.0 / precision
    if owners is not None:
        names, group, sizes = np.unique(owners, return_inverse=True, return_counts=True)
        members = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
        for name, block in zip(names, members, strict=True):
            if len(block) == 1 and block[0] == name:
                continue
            covariance = np.linalg.inv(left[block] @ right[:, block] + offset * np.eye(len(block)))
            errors[block] = covariance @ residual[block]
            variances[block] = np.diag(covariance)
    return errors, variances

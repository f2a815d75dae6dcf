"""Hyper-parameters by the log predictive probability of data that were left out.

For data t ~ N(0, s² B), B = G G^T + lambda I, and a block g left out (Rasmussen & Williams, Gaussian
Processes for Machine Learning, eqs. 5.10-5.13, for one datum; here for blocks):

    S_g = [(B^-1)_gg]^-1,  t_g - mean_g = S_g (B^-1 t)_g,  covariance of t_g = s² S_g

All blocks follow from one decomposition of G: nothing is trained again.
"""

import numpy as np

from godelta.arrays import FloatArray, IntArray
from godelta.delta import regression
from godelta.delta.regression import PRIOR_STRENGTH, Hyperparameters, Spectrum


def fit_hyperparameters(
    spectrum: Spectrum,
    t: FloatArray,
    noises: FloatArray,
    amplitude: float | None,
    owners: IntArray | None = None,
    strength: float = PRIOR_STRENGTH,
) -> Hyperparameters:
    """The noise among `noises` with the highest predictive probability.

    The amplitude is profiled unless given; priors are those of `regression.fit_hyperparameters`. Data with
    the same owner (N,) are left out together: a displaced copy would tell its structure's energy.
    `log_evidence` of the result is the log predictive probability, up to a constant, with the log priors.
    """
    blocks = _blocks(np.arange(len(t)) if owners is None else owners)
    best: Hyperparameters | None = None
    for noise in noises:
        misfit, log_det = left_out(spectrum, t, float(noise), blocks)
        candidate = regression.profile(misfit, log_det, len(t), float(noise), amplitude, strength)
        if best is None or candidate.log_evidence > best.log_evidence:
            best = candidate
    if best is None:
        raise ValueError("no noise level to choose from")
    return best


def left_out(spectrum: Spectrum, t: FloatArray, noise: float, blocks: list[IntArray]) -> tuple[float, float]:
    """Sums over blocks of e_g . S_g^-1 e_g and of log |S_g|, with e_g the error when g is left out.

    blocks: arrays (count, size) of indices, each row a block.
    """
    vectors = spectrum.vectors
    offset = 1.0 / noise if len(t) > len(spectrum.values) else 0.0  # B^-1 = V diag(w) V^T + offset I
    w = 1.0 / (spectrum.values + noise) - offset
    solved = vectors @ (w * (vectors.T @ t)) + offset * t
    misfit = log_det = 0.0
    for rows in blocks:
        part = vectors[rows]
        precision = (part * w) @ part.transpose(0, 2, 1) + offset * np.eye(rows.shape[1])
        b = solved[rows]
        misfit += float(np.sum(b * np.linalg.solve(precision, b[..., None])[..., 0]))
        log_det -= float(np.sum(np.linalg.slogdet(precision)[1]))
    return misfit, log_det


def _blocks(owners: IntArray) -> list[IntArray]:
    """Indices of data with the same owner, as one array (count, size) for each size that occurs."""
    _, group, sizes = np.unique(owners, return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group.reshape(-1), kind="stable"), np.cumsum(sizes)[:-1])
    return [np.array([m for m in members if len(m) == size]) for size in np.unique(sizes)]

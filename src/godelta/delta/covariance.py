"""How the errors of several predictions hang together: for batches that do not ask the same thing twice.

The posterior covariance of two structures, with the equations and names of `sparse_gp`:

    cov(A, B) = s² [k(A, B) - (W k_M(A)) . (W k_M(B))]

An observation of A lowers the variance of B by cov(A, B)² / (cov(A, A) + noise of A), whatever it says: a
candidate that is taken counts as observed before its evaluation is in (a virtual observation; Ginsbourger,
Le Riche and Carraro, in Computational Intelligence in Expensive Optimization Problems, Springer 2010).
"""

from collections.abc import Sequence

import numpy as np

from godelta.arrays import FloatArray, IntArray
from godelta.delta.aggregation import pool
from godelta.delta.embedding import EmbeddingCorrection
from godelta.delta.local_kernel import Environments
from godelta.delta.model import AnyCorrection

_LEAST = 1e-12  # of variances, in units of s²


class VirtualObservations:
    """Deviations of the predictions of some structures, as ever more of them are taken as observed.

    Parameters
    ----------
    correction
        A trained Δ-model.
    environments
        The atoms of n structures, from `explain.environments_of`.
    """

    def __init__(self, correction: AnyCorrection, environments: Sequence[Environments]) -> None:
        kernel, posterior = correction.kernel, correction.posterior
        seen = [_as_compared(correction, x) for x in environments]
        counts = np.array([np.bincount(x.kinds, minlength=len(correction.species)) for x in environments])
        counts = counts.astype(np.float64).reshape(len(seen), len(correction.species))
        sizes = counts.sum(axis=1)
        counts = counts if len(posterior.mean) > 1 else sizes[:, None]
        self._blocks, rows = [], np.zeros((len(seen), kernel.size))
        for b in range(len(kernel.inducing)):
            X, weights, owners = [np.zeros((0, kernel.inducing[b].shape[1]))], [np.zeros(0)], [np.zeros(0)]
            for k, (x, weight) in enumerate(seen):
                (values,) = [v for v in kernel.values(x) if v.block == b]
                n = len(values.atoms)
                part = slice(kernel.offsets[b], kernel.offsets[b + 1])
                rows[k, part] = weight * values.K[:n].sum(axis=0)
                X.append(values.X[:n, : kernel.inducing[b].shape[1]])
                weights.append(np.full(n, weight))
                owners.append(np.full(n, float(k)))
            self._blocks.append(
                (np.concatenate(X), np.concatenate(weights), np.concatenate(owners).astype(np.int64))
            )
        scaled = posterior.mean_scale * counts
        self._composition = (
            scaled if posterior.unseen is None else np.hstack([scaled, counts @ posterior.unseen.T])
        )
        self._explained = np.hstack([rows, scaled]) @ posterior.projection.T
        self._amplitude = posterior.amplitude
        self._noise = posterior.noise * sizes
        self._beyond = posterior.discrepancy * sizes
        self._taken: list[FloatArray] = []
        own = np.array([self._prior(k)[k] for k in range(len(seen))])
        self._latent = np.maximum(own - np.sum(self._explained**2, axis=1), _LEAST)

    @property
    def deviations(self) -> FloatArray:
        """(n,) eV, what the kernel cannot express not counted: observing a structure would not lessen it."""
        return np.asarray(self._amplitude * np.sqrt(self._latent), dtype=np.float64)

    @property
    def totals(self) -> FloatArray:
        """(n,) eV, with it: deviations of the reference energies."""
        return np.asarray(self._amplitude * np.sqrt(self._latent + self._beyond), dtype=np.float64)

    def covariances(self, k: int) -> FloatArray:
        """(n,) eV², of the k-th structure with each one."""
        return self._amplitude**2 * self._column(k)

    def observe(self, k: int) -> None:
        """Take the k-th structure as observed."""
        column = self._column(k)
        self._taken.append(column / np.sqrt(max(column[k], _LEAST) + self._noise[k]))
        self._latent = np.maximum(self._latent - self._taken[-1] ** 2, _LEAST)

    def _column(self, k: int) -> FloatArray:
        column = self._prior(k) - self._explained @ self._explained[k]
        for taken in self._taken:
            column = column - taken * taken[k]
        return np.asarray(column, dtype=np.float64)

    def _prior(self, k: int) -> FloatArray:
        """(n,) k(A, B)/s² of the k-th structure with each one."""
        result = self._composition @ self._composition[k]
        for X, weights, owners in self._blocks:
            own = owners == k
            half = 0.5 * np.einsum("ij,ij->i", X, X)
            K = np.exp(X @ X[own].T - half[:, None] - half[own][None, :]) @ weights[own]
            result = result + np.bincount(owners, weights * K, minlength=len(result))
        return np.asarray(result, dtype=np.float64)


def _as_compared(correction: AnyCorrection, x: Environments) -> tuple[Environments, float]:
    """What the kernel compares, and what each of it counts."""
    if not isinstance(correction, EmbeddingCorrection) or correction.settings.aggregation == "atomic":
        return x, 1.0
    vector = pool(x.features, x.kinds, len(correction.species), correction.settings)
    kinds: IntArray = np.zeros(1, dtype=np.int64)
    one = Environments((vector / correction.feature_scale)[None, :], kinds)
    return one, len(x.kinds) / correction.size_scale

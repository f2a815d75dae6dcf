"""Parents of new structures: low in energy, and unlike each other."""

import warnings
from collections.abc import Sequence

import numpy as np

from godelta.arrays import FloatArray, IntArray

WINDOW = 5.0  # eV above the lowest; doubled until there are enough
ENOUGH = 20
DOUBLINGS = 4
MOST_CLUSTERS = 10
PER_CLUSTER = 5


def low_ones(energies: FloatArray) -> IntArray:
    """Indices of the structures within 5 · 2^i eV of the lowest, i the smallest of 0..4 that gives 20."""
    above = energies - energies.min()
    for i in range(DOUBLINGS + 1):
        low = np.flatnonzero(above <= WINDOW * 2**i)
        if len(low) >= ENOUGH:
            break
    return np.asarray(low, dtype=np.int64)


def choose_parents(energies: FloatArray, features: Sequence[FloatArray], seed: int) -> IntArray:
    """Indices of the lowest structure of each cluster among the low ones, lowest first.

    Parameters
    ----------
    energies
        (n,) reference energies in eV.
    features
        n descriptors of whole structures.
    seed
        Of k-means, which makes 1 + min(9, m // 5) clusters of m structures.
    """
    from sklearn.cluster import KMeans  # half a second to import
    from sklearn.exceptions import ConvergenceWarning

    low = low_ones(energies)
    count = 1 + min(MOST_CLUSTERS - 1, len(low) // PER_CLUSTER)
    kinds = np.zeros(len(low), dtype=np.int64)
    if count > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct structures than clusters
            k_means = KMeans(n_clusters=count, n_init=10, random_state=seed)
            kinds = k_means.fit_predict(np.stack([features[i] for i in low]))
    order = np.argsort(energies[low], kind="stable")
    _, first = np.unique(kinds[order], return_index=True)
    return np.asarray(low[order[np.sort(first)]], dtype=np.int64)

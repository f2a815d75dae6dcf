"""From features of atoms to what the kernel of an embedding compares.

`atomic` compares atoms, as with SOAP. `global` and `species` compare structures by one vector φ each, every
feature in units of its spread over the training structures:

    k(A, B) = s² n_A n_B / n̄ exp(-|φ_A - φ_B|² / 2 l²),  n̄ the mean number of atoms in training

With n_A n_B the energy of a supercell is the multiple of its cell's (pooling `mean`). With 1/n̄ the amplitude
s has the meaning, and the prior, that it has for local environments: n independent atoms vary by s sqrt(n).
"""

from typing import TYPE_CHECKING

import numpy as np

from godelta.arrays import FloatArray, IntArray
from godelta.delta.settings import DeltaSettings

if TYPE_CHECKING:
    from torch import Tensor


def pool(features: FloatArray, kinds: IntArray, n_species: int, settings: DeltaSettings) -> FloatArray:
    """(D,) vector of one structure with features (n, d); a species that it lacks leaves zeros."""
    groups = [features[kinds == z] for z in range(n_species)] if _by_species(settings) else [features]
    if settings.pooling == "sum":
        return np.concatenate([group.sum(axis=0) for group in groups])
    return np.concatenate([group.sum(axis=0) / max(len(group), 1) for group in groups])


def pull_back(gradient: FloatArray, kinds: IntArray, n_species: int, settings: DeltaSettings) -> FloatArray:
    """Derivatives by the atoms' features, (n, d), of one by the vector (D,) of `pool`."""
    by_group = gradient.reshape(n_species if _by_species(settings) else 1, -1)
    group = kinds if _by_species(settings) else np.zeros_like(kinds)
    if settings.pooling == "mean":
        by_group = by_group / np.maximum(np.bincount(group, minlength=len(by_group)), 1)[:, None]
    by_atom: FloatArray = by_group[group]
    return by_atom


def pool_batch(
    features: "Tensor", kinds: "Tensor", owners: "Tensor", counts: "Tensor", settings: DeltaSettings
) -> "Tensor":
    """(B, D) vectors of B structures, as `pool` has them.

    Parameters
    ----------
    features, kinds, owners
        (N, d) features, species indices (N,) and structures (N,) of all atoms.
    counts
        (B, species) numbers of atoms.
    """
    group, sizes = _groups(kinds, owners, counts, settings)
    total = features.new_zeros(len(sizes), features.shape[1]).index_add(0, group, features)
    if settings.pooling == "mean":
        total = total / sizes.clamp(min=1.0)[:, None]
    return total.reshape(len(counts), -1)


def pull_back_batch(
    gradient: "Tensor", kinds: "Tensor", owners: "Tensor", counts: "Tensor", settings: DeltaSettings
) -> "Tensor":
    """Derivatives by the atoms' features, (N, d), of those by the vectors (B, D) of `pool_batch`."""
    group, sizes = _groups(kinds, owners, counts, settings)
    by_group = gradient.reshape(len(sizes), -1)
    if settings.pooling == "mean":
        by_group = by_group / sizes.clamp(min=1.0)[:, None]
    return by_group[group]


def _groups(
    kinds: "Tensor", owners: "Tensor", counts: "Tensor", settings: DeltaSettings
) -> tuple["Tensor", "Tensor"]:
    """What each atom is put together with (N,), and how many there are of each."""
    if _by_species(settings):
        return owners * counts.shape[1] + kinds, counts.reshape(-1)
    return owners, counts.sum(1)


def _by_species(settings: DeltaSettings) -> bool:
    return settings.aggregation == "species"

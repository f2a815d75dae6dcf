"""Which candidates are evaluated at the reference level."""

import numpy as np

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.search.settings import SelectionSettings


def choose(
    energies: FloatArray,
    uncertainties: FloatArray,
    groups: IntArray,
    settings: SelectionSettings,
    count: int,
    rng: np.random.Generator,
    last: BoolArray | None = None,
) -> IntArray:
    """Indices of the candidates to evaluate, most wanted first; at most one per group.

    Parameters
    ----------
    energies
        (n,) model energies in eV.
    uncertainties
        (n,) standard deviations in eV; NaN counts as 0 (there is no correction yet).
    groups
        (n,) labels of equivalent candidates; a negative label excludes (it was evaluated before).
    settings
        `acquisition`: lowest E - kappa sigma first. `random`: as drawn.
    count
        Most indices to return.
    rng
        Source of the random order.
    last
        (n,) flags of candidates that come after all others, e.g. fresh random structures.
    """
    if settings.choose == "random":
        order = rng.permutation(len(energies))
    else:
        order = np.argsort(energies - settings.kappa * np.nan_to_num(uncertainties, nan=0.0), kind="stable")
    if last is not None:
        order = order[np.argsort(last[order], kind="stable")]
    order = order[(groups[order] >= 0) & np.isfinite(energies[order])]
    _, first = np.unique(groups[order], return_index=True)
    return np.asarray(order[np.sort(first)][: max(count, 0)], dtype=np.int64)

"""Which candidates are evaluated at the reference level."""

import numpy as np

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.search.settings import GOFEESettings, SearchSettings, SelectionSettings

FOLLOW_UP = "step"  # the move that makes a structure one step down from an evaluated one


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


def shared_out(settings: SearchSettings, steps: int, count: int) -> tuple[int, int]:
    """Of `count` evaluations, those for steps down from evaluated structures, and those for others.

    Where each evaluation is followed by such a step, half of a round is kept for them.
    """
    following = min(steps, count)
    others = count - following
    if isinstance(settings, GOFEESettings) and settings.follow_up:
        asked = settings.selection.evaluations_per_round
        others = min(others, asked - asked // 2)
    return following, others

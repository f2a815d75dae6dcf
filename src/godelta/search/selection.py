"""Which candidates are evaluated at the reference level."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.stats import norm

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.search.settings import GOFEESettings, SearchSettings, SelectionSettings

FOLLOW_UP = "step"  # the move that makes a structure one step down from an evaluated one


def choose(  # noqa: PLR0913 - candidates, and what else orders them
    energies: FloatArray,
    uncertainties: FloatArray,
    groups: IntArray,
    settings: SelectionSettings,
    count: int,
    rng: np.random.Generator,
    *,
    last: BoolArray | None = None,
    best: float | None = None,
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
        `acquisition`: lowest E - kappa sigma first. `expected_improvement`: largest one first. `random`: as
        drawn.
    count
        Most indices to return.
    rng
        Source of the random order.
    last
        (n,) flags of candidates that come after all others, e.g. fresh random structures.
    best
        Lowest reference energy by now, eV; None: nothing has been evaluated.
    """
    if settings.choose == "random":
        order = rng.permutation(len(energies))
    else:
        order = np.argsort(-wanted(energies, uncertainties, settings, best), kind="stable")
    if last is not None:
        order = order[np.argsort(last[order], kind="stable")]
    order = order[(groups[order] >= 0) & np.isfinite(energies[order])]
    _, first = np.unique(groups[order], return_index=True)
    return np.asarray(order[np.sort(first)][: max(count, 0)], dtype=np.int64)


def wanted(
    energies: FloatArray, uncertainties: FloatArray, settings: SelectionSettings, best: float | None
) -> FloatArray:
    """How much the evaluation of each candidate is wanted, (n,) eV; parameters are those of `choose`.

    kappa sigma - E, or the expected improvement E[max(best - E, 0)] of a normal distribution (Jones, Schonlau
    and Welch, J. Global Optim. 13, 455 (1998)), which is best - E where it is certain.
    """
    sigma = np.nan_to_num(uncertainties, nan=0.0)
    if settings.choose != "expected_improvement" or best is None:
        return np.asarray(settings.kappa * sigma - energies, dtype=np.float64)
    gain = best - energies
    z = gain / np.maximum(sigma, 1e-12)
    expected = gain * norm.cdf(z) + sigma * norm.pdf(z)
    # Beyond what a float can tell apart, the lower energy is wanted more.
    return np.asarray(np.where(expected > 1e-12, expected, np.minimum(gain, 0.0) - 1.0), dtype=np.float64)


class Observations(Protocol):
    """What `delta.covariance.VirtualObservations` is."""

    @property
    def deviations(self) -> FloatArray:
        """(n,) standard deviations in eV."""
        ...

    def observe(self, k: int) -> None:
        """Take the k-th candidate as observed."""
        ...


def choose_one_by_one(
    energies: FloatArray,
    groups: IntArray,
    settings: SelectionSettings,
    count: int,
    virtual: Observations,
    is_new: Callable[[int, list[int]], bool],
    best: float | None = None,
) -> IntArray:
    """As `choose`, each one counted as observed before the next is chosen.

    Its energy is believed to be the predicted one, so that predictions stay and uncertainties fall.

    Parameters
    ----------
    virtual
        Uncertainties of the candidates; there may be more structures after these.
    is_new
        Whether a candidate is equivalent to nothing known and to none of those taken.
    """
    left, taken = (groups >= 0) & np.isfinite(energies), list[int]()
    while len(taken) < count and left.any():
        deviations = virtual.deviations[: len(energies)]
        k = int(np.argmax(np.where(left, wanted(energies, deviations, settings, best), -np.inf)))
        left[k] = False
        if is_new(k, taken):
            taken.append(k)
            virtual.observe(k)
            left &= groups != groups[k]
    return np.array(taken, dtype=np.int64)


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

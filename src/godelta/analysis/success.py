"""When runs of a search succeed, and what can be said from a few dozen of them.

A run is one seed. Its cost counts evaluations, CPU seconds or an accounted price: what grows while it runs.
Seeds are not paired across methods. A run under way is censored; one that has ended without success never has
one, and counts as such at every cost: to censor it would ascribe to it the successes of those that went on.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from godelta.analysis.duplicates import DISTANCE_TOLERANCE, group
from godelta.arrays import BoolArray, FloatArray

WITHIN = 0.05  # eV above the lowest energy known
CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Runs:
    """Runs of one method.

    Parameters
    ----------
    costs
        (n,) cost of each run at its first success, or at its end where it had none.
    succeeded
        (n,) whether it had one.
    ended
        (n,) whether a run had come to its end, so that without success it never has one; None: no run had.

    Raises
    ------
    ValueError
        There is no run, the shapes differ, or a cost is negative or not finite.
    """

    costs: FloatArray
    succeeded: BoolArray
    ended: BoolArray | None = None

    def __post_init__(self) -> None:
        flags = [self.succeeded] if self.ended is None else [self.succeeded, self.ended]
        if self.costs.ndim != 1 or not self.costs.size or any(f.shape != self.costs.shape for f in flags):
            raise ValueError("runs need one cost and one flag each, and there has to be one")
        if not np.isfinite(self.costs).all() or (self.costs < 0).any():
            raise ValueError("costs of runs have to be finite, and not negative")

    @property
    def until(self) -> FloatArray:
        """(n,) costs up to which the runs are at risk to succeed: infinite of those that never do."""
        if self.ended is None:
            return self.costs
        return np.where(self.ended & ~self.succeeded, np.inf, self.costs)


@dataclass(frozen=True)
class Curve:
    """Fraction of runs that have succeeded by each cost, with a pointwise 95 % band; NaN: not observed."""

    costs: FloatArray
    fraction: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Ratio:
    """Ratio of two costs with its 95 % interval; infinite or NaN where a method has not got that far."""

    value: float
    low: float
    high: float


def first_success(
    energies: FloatArray,
    lowest: float,
    *,
    within: float = WITHIN,
    structures: Sequence[Atoms] = (),
    target: Atoms | None = None,
    distance_tolerance: float = DISTANCE_TOLERANCE,
) -> int | None:
    """Index of the first evaluation that is a success; None where there is none.

    It is one within `within` of the lowest energy known, or equivalent to the structure that has it.

    Parameters
    ----------
    energies
        (n,) energies in eV in the order in which they were paid for; NaN of failed evaluations.
    lowest
        Lowest energy known, eV.
    structures
        The n structures; needed with `target` only.
    target
        The structure of lowest energy.
    distance_tolerance
        As of `group`, Å.

    Raises
    ------
    ValueError
        There is a target, and not one structure for each energy.
    """
    low = np.flatnonzero(energies <= lowest + within)
    by_energy = int(low[0]) if low.size else None
    if target is None:
        return by_energy
    if len(structures) != len(energies):
        raise ValueError("a target needs one structure for each energy")
    earlier = [
        i for i in np.flatnonzero(np.isfinite(energies)).tolist() if by_energy is None or i < by_energy
    ]
    for i in earlier:
        same = group([target, structures[i]], np.zeros(2), distance_tolerance=distance_tolerance)
        if same[1] == same[0]:
            return int(i)
    return by_energy


def wilson(successes: int, runs: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's interval of a success rate: 10 of 20 runs mean 30 to 70 %."""
    from scipy.stats import binomtest

    interval = binomtest(successes, runs).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def success_curve(runs: Runs, costs: FloatArray) -> Curve:
    """The fraction of runs that have succeeded by these costs (m,), by Kaplan and Meier.

    Up to the cost that the first run under way has reached this is the plain fraction, with Wilson's
    interval; beyond it, Kaplan-Meier with the interval of its log-log transform. Beyond the largest cost of
    any run nothing is known.
    """
    from scipy.stats import ecdf

    largest = float(runs.costs.max())
    found = ecdf(_censored(runs, largest)).cdf
    fraction = np.array(found.evaluate(costs), dtype=float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined at 0 and 1: Wilson's stands in
        band = found.confidence_interval(CONFIDENCE, method="log-log")
    low, high = (np.array(end.evaluate(costs), dtype=float) for end in (band.low, band.high))
    until = runs.until
    left = until[~runs.succeeded].min(initial=np.inf)
    for i, cost in enumerate(costs.tolist()):
        if cost <= left or not (np.isfinite(low[i]) and np.isfinite(high[i])):
            by_then = int((runs.succeeded & (until <= cost)).sum())
            still = int((until > cost).sum()) + int((~runs.succeeded & (until == cost)).sum())
            low[i], high[i] = wilson(by_then, max(1, by_then + still))
    fraction[costs > largest] = low[costs > largest] = high[costs > largest] = np.nan
    return Curve(costs, fraction, low, high)


def cost_to(runs: Runs, fraction: float = 0.5) -> float:
    """The cost by which this fraction of the runs has succeeded, by Kaplan and Meier; inf: not yet."""
    order = np.lexsort((~runs.succeeded, runs.until))  # of equal costs successes come first
    at_risk = np.arange(len(order), 0, -1)
    surviving = np.cumprod(np.where(runs.succeeded[order], 1.0 - 1.0 / at_risk, 1.0))
    reached = np.flatnonzero(surviving <= 1.0 - fraction + 1e-12)
    return float(runs.costs[order][reached[0]]) if reached.size else float("inf")


def interval_of_cost(
    runs: Runs, fraction: float = 0.5, *, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Bootstrap percentile interval of `cost_to`; its ends may be infinite. One run tells nothing."""
    if len(runs.costs) < 2:
        return 0.0, float("inf")
    drawn = np.random.default_rng(seed).integers(len(runs.costs), size=(resamples, len(runs.costs)))
    draws = np.array([cost_to(_drawn(runs, chosen), fraction) for chosen in drawn])
    tail = (1.0 - CONFIDENCE) / 2
    low, high = (float(np.quantile(draws, q, method="inverted_cdf")) for q in (tail, 1.0 - tail))
    return low, high


def ratio_of_costs(
    one: Runs, other: Runs, fraction: float = 0.5, *, seed: int = 0, resamples: int = RESAMPLES
) -> Ratio:
    """`cost_to` of one method over that of another, with a bootstrap percentile interval.

    Runs are drawn again within each method. Where a draw reaches the fraction with neither, its ratio may be
    anything: it widens the interval on both sides. One run tells nothing.
    """
    from scipy.stats import bootstrap

    value = _over(cost_to(one, fraction), cost_to(other, fraction))
    if min(len(one.costs), len(other.costs)) < 2:
        return Ratio(value, 0.0, float("inf"))

    def ratio(i: Any, j: Any) -> float:
        return _over(cost_to(_drawn(one, i), fraction), cost_to(_drawn(other, j), fraction))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # ratios may be infinite
        result = bootstrap(
            (np.arange(len(one.costs)), np.arange(len(other.costs))),
            ratio,
            n_resamples=resamples,
            vectorized=False,
            paired=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    draws = np.asarray(result.bootstrap_distribution, dtype=float)
    tail = (1.0 - CONFIDENCE) / 2
    ends = [
        float(np.quantile(np.where(np.isnan(draws), instead, draws), q, method="inverted_cdf"))
        for q, instead in ((tail, 0.0), (1.0 - tail, np.inf))
    ]
    return Ratio(value, *ends)


def logrank_p(one: Runs, other: Runs) -> float:
    """The probability of curves that differ as much or more, were both methods equally fast (log-rank)."""
    from scipy.stats import logrank

    largest = max(float(one.costs.max()), float(other.costs.max()))
    return float(logrank(_censored(one, largest), _censored(other, largest)).pvalue)


def _censored(runs: Runs, largest: float) -> Any:
    """The runs for scipy, which takes no infinite costs: beyond the largest one is as good."""
    from scipy.stats import CensoredData

    until = np.minimum(runs.until, 2.0 * largest + 1.0)
    return CensoredData(uncensored=until[runs.succeeded], right=until[~runs.succeeded])


def _drawn(runs: Runs, chosen: Any) -> Runs:
    picked = np.asarray(chosen, dtype=np.int64)
    ended = None if runs.ended is None else runs.ended[picked]
    return Runs(runs.costs[picked], runs.succeeded[picked], ended)


def _over(a: float, b: float) -> float:
    if b == 0 or (np.isinf(a) and np.isinf(b)):
        return float("nan")
    return a / b

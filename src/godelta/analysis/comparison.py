"""Success of methods side by side, against evaluations, processor time and accounted cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from godelta.analysis.success import Ratio, Runs, cost_to, first_success, interval_of_cost, logrank_p, wilson
from godelta.analysis.success import ratio_of_costs as ratio_of
from godelta.arrays import FloatArray

Measure = Literal["evaluations", "cpu_s", "accounted_s"]
MEASURES: tuple[Measure, ...] = ("evaluations", "cpu_s", "accounted_s")


@dataclass(frozen=True)
class Trace:
    """One run.

    Parameters
    ----------
    energies
        (n,) reference energies in eV in the order of the evaluations; NaN where one failed.
    cpu_s
        (n,) processor time in s spent by the end of each.
    total_cpu_s
        The same by the end of the run.
    equivalent
        Index of the first structure that is equivalent to the one of lowest energy; None where there is none,
        or nobody has looked.
    ended
        Whether the run has come to its end, and has no success to come; of one under way, or stopped by a
        person, nobody knows.

    Raises
    ------
    ValueError
        The shapes differ.
    """

    energies: FloatArray
    cpu_s: FloatArray
    total_cpu_s: float
    equivalent: int | None = None
    ended: bool = False

    def __post_init__(self) -> None:
        if self.energies.ndim != 1 or self.energies.shape != self.cpu_s.shape:
            raise ValueError("a trace needs one energy and one time for each evaluation")


@dataclass(frozen=True)
class Cost:
    """What one measure says of a cell: cost to 50 % success with its interval, and against the best cell.

    `ratio` and `p` (log-rank) are None for the best cell itself, and for what stands in its place where no
    run of any cell has succeeded, so that none is best.
    """

    to_half: float
    low: float
    high: float
    best: bool
    ratio: Ratio | None
    p: float | None


@dataclass(frozen=True)
class Cell:
    """One method: how many of its runs succeeded, with Wilson's 95 % interval, and at what cost."""

    name: str
    runs: int
    successes: int
    low: float
    high: float
    spent: dict[Measure, float]
    costs: dict[Measure, Cost]


def success_of(trace: Trace, lowest: float, *, within: float) -> int | None:
    """Index of a run's first success, by energy or by structure; None where there is none."""
    by_energy = first_success(trace.energies, lowest, within=within)
    return min((hit for hit in (by_energy, trace.equivalent) if hit is not None), default=None)


def runs_by_measure(
    traces: Sequence[Trace], lowest: float, *, within: float, price_s: float
) -> dict[Measure, Runs]:
    """The runs of one method, their costs counted in every measure.

    Parameters
    ----------
    lowest, within
        A run succeeds with its first energy of at most their sum, eV, or with an equivalent structure.
    price_s
        Seconds that one evaluation is accounted with, beyond the processor time.
    """
    hits = [success_of(trace, lowest, within=within) for trace in traces]
    counts = np.array(
        [len(trace.energies) if hit is None else hit + 1 for trace, hit in zip(traces, hits, strict=True)],
        dtype=float,
    )
    cpu = np.array(
        [
            trace.total_cpu_s if hit is None else trace.cpu_s[hit]
            for trace, hit in zip(traces, hits, strict=True)
        ],
        dtype=float,
    )
    succeeded = np.array([hit is not None for hit in hits], dtype=bool)
    ended = np.array([trace.ended for trace in traces], dtype=bool)
    costs: dict[Measure, FloatArray] = {
        "evaluations": counts, "cpu_s": cpu, "accounted_s": cpu + price_s * counts
    }  # fmt: skip
    return {measure: Runs(costs[measure], succeeded, ended) for measure in MEASURES}


def compare(cells: Mapping[str, Mapping[Measure, Runs]]) -> list[Cell]:
    """Every method beside the best one of each measure, which is the one that reaches 50 % first.

    Where none does, it is the one with the most successes.
    """
    best = {measure: _best(cells, measure) for measure in MEASURES}
    made = []
    for name, by in cells.items():
        succeeded = by["evaluations"].succeeded
        successes, n = int(succeeded.sum()), len(succeeded)
        made.append(
            Cell(
                name,
                n,
                successes,
                *wilson(successes, n),
                spent={measure: float(by[measure].costs.sum()) for measure in MEASURES},
                costs={m: _cost(by[m], None if name == best[m] else cells[best[m]][m]) for m in MEASURES},
            )
        )
    return made


def _best(cells: Mapping[str, Mapping[Measure, Runs]], measure: Measure) -> str:
    def rank(name: str) -> tuple[float, float]:
        runs = cells[name][measure]
        return cost_to(runs), -float(runs.succeeded.mean())

    return min(cells, key=rank)


def _cost(runs: Runs, best: Runs | None) -> Cost:
    low, high = interval_of_cost(runs)
    if best is None:
        return Cost(cost_to(runs), low, high, best=bool(runs.succeeded.any()), ratio=None, p=None)
    events = runs.succeeded.any() or best.succeeded.any()
    p = logrank_p(runs, best) if events else math.nan
    return Cost(cost_to(runs), low, high, best=False, ratio=ratio_of(runs, best), p=p)

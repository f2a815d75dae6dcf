"""Whether uncertainties are what they say: errors against predicted deviations."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, spearmanr

from godelta.arrays import FloatArray

LEVELS = (0.5, 0.68, 0.95)
LEAST = 3  # a rank correlation of fewer says nothing


@dataclass(frozen=True, slots=True)
class Calibration:
    """What n predictions with deviations turned out to be.

    Parameters
    ----------
    n
        How many.
    mae, rmse
        Errors, eV.
    z_rms
        Root mean square of error over deviation: 1 where deviations are right, more where they are too small.
    coverage
        Share of errors within the central interval of each of `LEVELS`, which it should be.
    spearman
        Rank correlation of the size of the error with the deviation; None of fewer than three, or where all
        deviations are equal.
    """

    n: int
    mae: float
    rmse: float
    z_rms: float
    coverage: tuple[float, ...]
    spearman: float | None


def calibration(errors: FloatArray, deviations: FloatArray) -> Calibration | None:
    """Compare errors (n,) with deviations (n,), eV; None where there are none.

    Pairs with an unknown error or deviation are left out.
    """
    known = np.isfinite(errors) & np.isfinite(deviations) & (deviations > 0)
    errors, deviations = errors[known], deviations[known]
    if not len(errors):
        return None
    z = errors / deviations
    rank = None
    if len(errors) >= LEAST and np.ptp(deviations) > 0 and np.ptp(np.abs(errors)) > 0:
        rank = float(spearmanr(np.abs(errors), deviations).statistic)
    return Calibration(
        n=len(errors),
        mae=float(np.abs(errors).mean()),
        rmse=float(np.sqrt(np.mean(errors**2))),
        z_rms=float(np.sqrt(np.mean(z**2))),
        coverage=tuple(float(share) for share in coverage(z, np.array(LEVELS))),
        spearman=rank,
    )


def coverage(z: FloatArray, levels: FloatArray) -> FloatArray:
    """Share of z-scores (n,) within the central interval of a normal distribution at each level (k,)."""
    limits = norm.ppf(0.5 + 0.5 * levels)
    shares: FloatArray = (np.abs(z)[:, None] <= limits).mean(axis=0)
    return shares

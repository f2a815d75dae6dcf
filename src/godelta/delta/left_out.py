"""Predictions of a model for its own training structures, each left out with what carries its forces."""

from dataclasses import dataclass

import numpy as np

from godelta.arrays import BoolArray, FloatArray

_PRIOR_STRENGTH = 5.0
_ONE_SIGMA = 0.6827  # of a normal distribution are within one standard deviation


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Evaluations left out one by one (Rasmussen and Williams, section 5.4.2), in the order of their ids.

    Inducing points, hyper-parameters and the prior mean are those of all data.

    Parameters
    ----------
    errors
        (n,) reference minus prediction, eV.
    deviations
        (n,) that were predicted, eV, noise included.
    inside
        (n,) flags of those inside the energy window; outside energies are compressed.
    influence
        (n, M + c): as `Posterior.weights`, of what a prediction would lose without the evaluation.
    """

    errors: FloatArray
    deviations: FloatArray
    inside: BoolArray
    influence: FloatArray


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Leave-one-out errors inside the energy window; None where fewer than two structures allow none.

    loo_rmse, loo_rmse_per_atom in eV; loo_z: root mean square of error over predicted deviation.
    """

    n_structures: int
    n_inside: int
    log_evidence: float
    loo_rmse: float | None
    loo_rmse_per_atom: float | None
    loo_z: float | None


def diagnose(left_out: LeftOut, sizes: FloatArray, log_evidence: float) -> Diagnostics:
    """Errors of a fit to structures with `sizes` (n,) atoms."""
    inside = left_out.inside
    n_structures, n_inside = len(inside), int(inside.sum())
    if n_inside < 2:
        return Diagnostics(n_structures, n_inside, log_evidence, None, None, None)
    errors = left_out.errors[inside]
    return Diagnostics(
        n_structures=n_structures,
        n_inside=n_inside,
        log_evidence=log_evidence,
        loo_rmse=_rms(errors),
        loo_rmse_per_atom=_rms(errors / sizes[inside]),
        loo_z=_rms(errors / left_out.deviations[inside]),
    )


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def uncertainty_scale(left_out: LeftOut) -> float:
    """What predicted deviations have to be multiplied by, at least 1.

    Such that 68 % of the evaluations left out are within one deviation; of few evaluations little is believed
    (as if `_PRIOR_STRENGTH` more had said 1), and a single wild one does not matter. Smaller than 1 it is
    never: what a search has found resembles what it found before, what it proposes need not.
    """
    z = np.abs(left_out.errors / left_out.deviations)[left_out.inside]
    if not len(z):
        return 1.0
    typical = float(np.quantile(z, _ONE_SIGMA))
    return float(max(1.0, typical ** (len(z) / (len(z) + _PRIOR_STRENGTH))))

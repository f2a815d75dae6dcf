"""Predictions of a model for its own training structures, each left out with the copies of its forces."""

from dataclasses import dataclass

import numpy as np

from godelta.arrays import BoolArray, FloatArray
from godelta.delta import regression
from godelta.delta.model import Correction
from godelta.delta.sparse_gp import whitened_data


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Evaluations left out one by one.

    ids: n ids. errors: (n,) reference minus prediction, eV. deviations: (n,) that were predicted, eV, noise
    included. inside: (n,) flags of those inside the energy window; outside energies are compressed.
    """

    ids: tuple[str, ...]
    errors: FloatArray
    deviations: FloatArray
    inside: BoolArray


def held_out(correction: Correction) -> HeldOut:
    """Leave each evaluation of the training out (Rasmussen and Williams, section 5.4.2).

    Inducing points, hyper-parameters and the prior mean are kept.
    """
    training, posterior = correction.training, correction.posterior
    data = whitened_data(correction.settings, correction.kernel, correction.rows, training)
    d = data.deviations(posterior.amplitude, posterior.noise)
    solution = regression.solve(
        data.features / d[:, None], data.residual / d, posterior.noise, training.owners
    )
    own = np.flatnonzero(training.evaluated)
    return HeldOut(
        ids=tuple(training.ids[k] for k in own),
        errors=(solution.loo_residuals * d)[own],
        deviations=(posterior.amplitude * np.sqrt(solution.loo_variances) * d)[own],
        inside=(data.outside == 0)[own],
    )

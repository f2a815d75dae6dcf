"""Where a correction comes from: energy by atom, and the evaluations that made it what it is."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.linalg import cho_factor, cho_solve

from godelta.arrays import FloatArray, IntArray
from godelta.delta.local_kernel import Environments
from godelta.delta.model import Correction
from godelta.delta.sparse_gp import whitened_data


@dataclass(frozen=True, slots=True)
class Influence:
    """What one evaluation does to a prediction.

    Parameters
    ----------
    structure_id
        Id of the training structure, as the model knows it.
    shift
        The prediction with the evaluation minus the one without it, eV.
    residual
        Reference minus foundation energy of the evaluation beyond the prior mean of its composition, eV: both
        energies have zeros of their own.
    """

    structure_id: str
    shift: float
    residual: float


def atomic_corrections(correction: Correction, atoms: Atoms) -> FloatArray:
    """The correction's energy on each atom.

    The model is a sum over atoms, so that these add up to E_Δ exactly: the local part of each atom's
    environment, and the prior mean of its species.

    Parameters
    ----------
    correction
        A trained Δ-model on local SOAP.
    atoms
        n atoms.

    Returns
    -------
    numpy.ndarray
        (n,) in eV.
    """
    features, context = correction.soap.describe(atoms)
    kernel, posterior = correction.kernel, correction.posterior
    energies = np.zeros(len(atoms))
    for values in kernel.values(Environments(features, context.kinds)):
        own = slice(kernel.offsets[values.block], kernel.offsets[values.block + 1])
        energies[values.atoms] += values.K[: len(values.atoms)] @ posterior.weights[: kernel.size][own]
    size = len(posterior.mean)
    per_atom = posterior.mean + posterior.mean_scale * posterior.weights[len(posterior.weights) - size :]
    return np.asarray(energies + (per_atom[context.kinds] if size > 1 else per_atom[0]), dtype=np.float64)


def influences(correction: Correction, atoms: Atoms) -> list[Influence]:
    """How much each evaluation of the training moves the prediction of a structure, largest first.

    Exact leave-one-out (Rasmussen and Williams, Gaussian Processes for Machine Learning, section 5.4.2) with
    the inducing points, the hyper-parameters and the prior mean kept: with c = B^-1 G g and a = B^-1 t, the
    data S of one evaluation (itself and the copies that carry its forces) shift the prediction by
    c_S . (B^-1)_SS^-1 a_S.

    Parameters
    ----------
    correction
        A trained Δ-model on local SOAP.
    atoms
        The structure that is predicted.
    """
    training = correction.training
    data = whitened_data(correction.settings, correction.kernel, correction.rows, training)
    d = data.deviations(correction.posterior.amplitude, correction.posterior.noise)
    G, t = data.features / d[:, None], data.residual / d
    factor = cho_factor(G @ G.T + correction.posterior.noise * np.eye(len(t)), lower=True)
    inverse = cho_solve(factor, np.eye(len(t)))
    a, c = inverse @ t, inverse @ (G @ _whitened_row(correction, atoms))
    found = []
    sizes = training.counts if len(data.mean) > 1 else training.counts.sum(axis=1, keepdims=True)
    beyond = training.residuals - sizes @ data.mean
    for k in np.flatnonzero(training.evaluated):
        own = np.flatnonzero(training.owners == k)
        shift = float(c[own] @ np.linalg.solve(inverse[np.ix_(own, own)], a[own]))
        found.append(Influence(training.ids[k], shift, float(beyond[k])))
    return sorted(found, key=lambda one: (-abs(one.shift), one.structure_id))


def _whitened_row(correction: Correction, atoms: Atoms) -> FloatArray:
    features, context = correction.soap.describe(atoms)
    kernel = correction.kernel
    row = kernel.row(kernel.values(Environments(features, context.kinds)))
    counts = _counts(correction, context.kinds)
    extended = np.concatenate([row, correction.posterior.mean_scale * counts])
    whitened: FloatArray = kernel.whiten(extended[None, :])[0]
    return whitened


def _counts(correction: Correction, kinds: IntArray) -> FloatArray:
    counts = np.bincount(kinds, minlength=len(correction.species)).astype(np.float64)
    return counts if len(correction.posterior.mean) > 1 else counts.sum(keepdims=True)

"""Where a correction comes from: energy by atom, and the evaluations that made it what it is."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from godelta.arrays import FloatArray
from godelta.delta.embedding import EmbeddingCorrection
from godelta.delta.local_kernel import Environments
from godelta.delta.model import AnyCorrection
from godelta.foundation.base import Foundation


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


def environments_of(correction: AnyCorrection, foundation: Foundation | None, atoms: Atoms) -> Environments:
    """The atoms of a structure as a correction sees them.

    Parameters
    ----------
    foundation
        Whose features a correction on an embedding is a function of; one on SOAP needs none.
    """
    if isinstance(correction, EmbeddingCorrection):
        if foundation is None:
            raise ValueError("a correction on an embedding sees structures through its foundation")
        return correction.environments(foundation, atoms)
    features, context = correction.soap.describe(atoms)
    return Environments(features, context.kinds)


def compares_structures(correction: AnyCorrection) -> bool:
    """Whether its kernel is one of whole structures, so that nothing of its energy is on an atom."""
    return isinstance(correction, EmbeddingCorrection) and correction.settings.aggregation != "atomic"


def atomic_corrections(correction: AnyCorrection, x: Environments) -> FloatArray | None:
    """The correction's energy on each atom.

    The model is a sum over atoms, so that these add up to E_Δ exactly: the local part of each atom's
    environment, and the prior mean of its species.

    Parameters
    ----------
    correction
        A trained Δ-model.
    x
        The n atoms of a structure, from `environments_of`.

    Returns
    -------
    numpy.ndarray
        (n,) in eV; None where the kernel compares whole structures.
    """
    if compares_structures(correction):
        return None
    kernel, posterior = correction.kernel, correction.posterior
    energies = np.zeros(len(x.kinds))
    for values in kernel.values(x):
        own = slice(kernel.offsets[values.block], kernel.offsets[values.block + 1])
        energies[values.atoms] += values.K[: len(values.atoms)] @ posterior.weights[: kernel.size][own]
    size = len(posterior.mean)
    per_atom = posterior.mean + posterior.mean_scale * posterior.weights[len(posterior.weights) - size :]
    return np.asarray(energies + (per_atom[x.kinds] if size > 1 else per_atom[0]), dtype=np.float64)


def influences(correction: AnyCorrection, x: Environments) -> list[Influence]:
    """How much each evaluation of the training moves the prediction of a structure, largest first.

    Exact leave-one-out (Rasmussen and Williams, Gaussian Processes for Machine Learning, section 5.4.2) with
    the inducing points, the hyper-parameters and the prior mean kept: with c = B^-1 G g and a = B^-1 t, the
    data S of one evaluation (itself and what carries its forces) shift the prediction by
    c_S . (B^-1)_SS^-1 a_S = g . (B^-1 G)_S^T (B^-1)_SS^-1 a_S, where all but g was computed in training.

    Parameters
    ----------
    correction
        A trained Δ-model.
    x
        The atoms of the structure that is predicted, from `environments_of`.

    Returns
    -------
    list of Influence
        Empty for a model that was stored before this was kept.
    """
    if correction.left_out is None:
        return []
    training, mean = correction.training, correction.posterior.mean
    shifts = correction.left_out.influence @ _extended_row(correction, x)
    sizes = training.counts if len(mean) > 1 else training.counts.sum(axis=1, keepdims=True)
    beyond = training.residuals - sizes @ mean
    own = np.flatnonzero(training.evaluated)
    found = [
        Influence(training.ids[k], float(shift), float(beyond[k]))
        for k, shift in zip(own, shifts, strict=True)
    ]
    return sorted(found, key=lambda one: (-abs(one.shift), one.structure_id))


def _extended_row(correction: AnyCorrection, x: Environments) -> FloatArray:
    if isinstance(correction, EmbeddingCorrection):
        row = correction.row(x)
    else:
        row = correction.kernel.row(correction.kernel.values(x))
    counts = np.bincount(x.kinds, minlength=len(correction.species)).astype(np.float64)
    counts = counts if len(correction.posterior.mean) > 1 else counts.sum(keepdims=True)
    return np.concatenate([row, correction.posterior.mean_scale * counts])

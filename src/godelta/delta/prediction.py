"""One structure by the sparse Gaussian process, with the derivative of E - kappa sigma by its features.

In compiled loops on the CPU; `torch_gp` is the same for a batch on a GPU.
"""

from dataclasses import dataclass

from godelta.arrays import FloatArray
from godelta.delta.local_kernel import Environments, LocalKernel
from godelta.delta.sparse_gp import Posterior, deviation, mean_energy


@dataclass(frozen=True, slots=True)
class Evaluated:
    """E and sigma [eV], sigma NaN if not asked for, and the derivative (n, f) of E - kappa sigma."""

    energy: float
    sigma: float
    gradient: FloatArray


def evaluate(
    kernel: LocalKernel,
    posterior: Posterior,
    x: Environments,
    counts: FloatArray,
    *,
    kappa: float = 0.0,
    uncertainty: bool = False,
    weight: float = 1.0,
) -> Evaluated:
    """Evaluate one structure with one pass over kernel values and one back.

    Parameters
    ----------
    x
        Its n environments.
    counts
        (c,) numbers of atoms, as in `SparseGP.counts`.
    kappa
        Weight of sigma in the derivative; other than 0, sigma is given too.
    uncertainty
        Whether sigma is wanted when kappa is 0.
    weight
        What its environments count: the kernel with others is multiplied by it, that with itself by its
        square.
    """
    values = kernel.values(x)
    weights, shape = posterior.weights[: kernel.size], x.features.shape
    if not (kappa or uncertainty):
        local, gradient = kernel.pull_back(values, weights, shape)
        return Evaluated(mean_energy(posterior, counts) + weight * local, float("nan"), weight * gradient)
    row = weight * kernel.row(values)
    sigma, explained, matrices = deviation(kernel, posterior, values, row, counts, weight)
    # d(-kappa sigma) = kappa s²/sigma (W^T W k_M) . dk_M - kappa s²/(2 sigma) dk**
    factor = kappa * posterior.amplitude**2 / sigma
    gradient = weight * kernel.pull_back(values, weights + factor * explained, shape)[1]
    if kappa:
        gradient -= 0.5 * weight**2 * factor * kernel.self_gradient(values, matrices, shape)
    return Evaluated(mean_energy(posterior, counts) + float(row @ weights), sigma, gradient)

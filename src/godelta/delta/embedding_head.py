"""The correction on a foundation's features, as what a foundation adds to its energies.

The foundation calls it in the middle of its own pass, so that forces and stresses of foundation + Δ - kappa
sigma come from one backward pass. All algebra is in float64, whatever the foundation computes in.
"""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from godelta.arrays import FloatArray
from godelta.delta.aggregation import pool_batch, pull_back_batch
from godelta.delta.local_kernel import Environments
from godelta.delta.torch_gp import (
    TorchBlock,
    TorchGP,
    in_order_of_atoms,
    numbers_of_atoms,
    to_array,
    to_tensor,
)
from godelta.errors import GodeltaError
from godelta.foundation.torch_graph import Added

if TYPE_CHECKING:
    from torch import Tensor

    from godelta.delta.embedding import EmbeddingCorrection
    from godelta.foundation.torch_graph import Latent


@dataclass(frozen=True)
class Constants:
    """A correction's arrays on a device, float64.

    kind_of: (119,) index of a species by atomic number. gp: the Gaussian process. feature_scale: (D,).
    """

    kind_of: "Tensor"
    gp: TorchGP
    feature_scale: "Tensor"

    @classmethod
    def of(cls, correction: "EmbeddingCorrection", device: str) -> "Constants":
        """Those of a correction."""
        import torch

        return cls(
            kind_of=torch.tensor(correction.kind_of, device=device),
            gp=TorchGP.of(correction.kernel, correction.posterior, device),
            feature_scale=to_tensor(correction.feature_scale, device),
        )


@dataclass
class EmbeddingHead:
    """Adds E_Δ - kappa sigma to a foundation's energies, and remembers both; good for one evaluation.

    The foundation may show it a batch in pieces, and a piece again in smaller ones.

    Parameters
    ----------
    correction
        What has been learnt.
    kappa
        Weight of the uncertainty.
    uncertainty
        Whether sigma is wanted when kappa is 0.
    """

    correction: "EmbeddingCorrection"
    kappa: float = 0.0
    uncertainty: bool = False
    _energies: dict[int, FloatArray] = field(default_factory=dict)  # by the first structure of the piece
    _deviations: dict[int, FloatArray] = field(default_factory=dict)

    def __call__(self, latent: "Latent") -> Added:
        """Energies (B,) in eV, and their derivatives by the features."""
        evaluate = on_cpu if latent.features.device.type == "cpu" else batched
        energies, sigma, gradient = evaluate(self.correction, latent, self.kappa, self.uncertainty)
        self._energies[latent.first] = energies
        if sigma is None:
            return Added(energies, gradient)
        self._deviations[latent.first] = sigma
        return Added(energies - self.kappa * sigma, gradient)

    def results(self, n_structures: int) -> tuple[FloatArray, FloatArray]:
        """E_Δ (B,) and sigma (B,) in eV, NaN where it was not asked for, of all structures evaluated.

        Raises
        ------
        GodeltaError
            The foundation has shown it other than each structure once.
        """
        energies = _in_order(self._energies)
        if len(energies) != n_structures:
            raise GodeltaError(
                f"the foundation has shown {len(energies)} of {n_structures} structures to the correction",
                mend="report this as an error of godelta",
            )
        if not self._deviations:
            return energies, np.full(n_structures, np.nan)
        return energies, _in_order(self._deviations)


Shown = tuple[FloatArray, FloatArray | None, "Tensor"]


def on_cpu(correction: "EmbeddingCorrection", latent: "Latent", kappa: float, uncertainty: bool) -> Shown:
    """E_Δ and sigma (B,) in eV, sigma None if not asked for, and the derivative (N, d) of E_Δ - kappa sigma.

    One structure after the other in compiled loops: for some ten atoms four times as fast as `batched`.
    """
    features = latent.features.detach().numpy().astype(np.float64)
    kinds = correction.kind_of[latent.numbers.numpy()]
    sizes = np.bincount(latent.owners.numpy(), minlength=latent.count)
    energies, sigma, begin = np.empty(latent.count), np.empty(latent.count), 0
    for k, end in enumerate(accumulate(sizes.tolist())):
        x = Environments(features[begin:end], kinds[begin:end])
        done = correction.evaluate(x, kappa=kappa, uncertainty=uncertainty)
        # What was evaluated is not needed again, so its derivatives take its place.
        energies[k], sigma[k], features[begin:end] = done.energy, done.sigma, done.gradient
        begin = end
    return energies, sigma if kappa or uncertainty else None, latent.features.new_tensor(features)


def batched(correction: "EmbeddingCorrection", latent: "Latent", kappa: float, uncertainty: bool) -> Shown:
    """The same as products of matrices, for all structures at once: what a GPU is given."""
    constants = correction.constants(str(latent.features.device))
    kinds = constants.kind_of[latent.numbers]
    counts = numbers_of_atoms(kinds, latent.owners, latent.count, len(correction.species))
    blocks = _blocks(correction, latent, kinds, counts)
    energies, sigma, gradient = constants.gp.evaluate(blocks, counts, kappa=kappa, uncertainty=uncertainty)
    if correction.settings.aggregation == "atomic":
        by_atom = in_order_of_atoms(gradient, blocks)
    else:
        by_vector = gradient / constants.feature_scale
        by_atom = pull_back_batch(by_vector, kinds, latent.owners, counts, correction.settings)
    return to_array(energies), None if sigma is None else to_array(sigma), by_atom


def _blocks(
    correction: "EmbeddingCorrection", latent: "Latent", kinds: "Tensor", counts: "Tensor"
) -> list[TorchBlock]:
    import torch

    constants = correction.constants(str(latent.features.device))
    settings, features = correction.settings, latent.features.detach().double()
    if settings.aggregation == "atomic":
        return constants.gp.environments(features, kinds, latent.owners)
    (centre, points), owners = constants.gp.blocks[0], torch.arange(latent.count, device=kinds.device)
    pooled = pool_batch(features, kinds, latent.owners, counts, settings) / constants.feature_scale
    weights = counts.sum(1) / correction.size_scale
    X = (pooled - centre) / constants.gp.length_scale
    return [TorchBlock.of(X, points, weights, owners, None)]


def _in_order(pieces: dict[int, FloatArray]) -> FloatArray:
    return np.concatenate([np.empty(0), *(pieces[first] for first in sorted(pieces))])

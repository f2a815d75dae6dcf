"""The correction on a foundation's features as a function that PyTorch differentiates.

The foundation calls it in the middle of its own pass, so that forces and stresses of foundation + Δ - kappa
sigma come from one backward pass. All algebra is in float64, whatever the foundation computes in.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from godelta.arrays import FloatArray
from godelta.delta.aggregation import pool_batch
from godelta.errors import GodeltaError

if TYPE_CHECKING:
    from torch import Tensor

    from godelta.delta.embedding import EmbeddingCorrection
    from godelta.foundation.torch_graph import Latent


@dataclass(frozen=True)
class Constants:
    """A correction's arrays on a device, float64.

    kind_of: (119,) index of a species by atomic number. blocks: centre (f,) and inducing points (m, f) of
    each, the points centred and in units of the length scale. weights: (M,). per_atom: (c,) eV. projection:
    (rank, M + c). unseen: (k, c). feature_scale: (D,).
    """

    kind_of: "Tensor"
    blocks: list[tuple["Tensor", "Tensor"]]
    weights: "Tensor"
    per_atom: "Tensor"
    projection: "Tensor"
    unseen: "Tensor"
    feature_scale: "Tensor"

    @classmethod
    def of(cls, correction: "EmbeddingCorrection", device: str) -> "Constants":
        """Those of a correction."""
        import torch

        def tensor(array: FloatArray) -> "Tensor":
            return torch.tensor(array, dtype=torch.float64, device=device)

        kernel, posterior = correction.kernel, correction.posterior
        kind_of = torch.full((119,), -1, dtype=torch.long)
        kind_of[list(correction.species)] = torch.arange(len(correction.species))
        blocks = []
        for points in kernel.inducing:
            centre = points.mean(axis=0) if len(points) else np.zeros(points.shape[1])
            blocks.append((tensor(centre), tensor((points - centre) / kernel.length_scale)))
        c = len(posterior.mean)
        extra = posterior.weights[kernel.size :]
        return cls(
            kind_of=kind_of.to(device),
            blocks=blocks,
            weights=tensor(posterior.weights[: kernel.size]),
            per_atom=tensor(posterior.mean + posterior.mean_scale * extra),
            projection=tensor(posterior.projection),
            unseen=tensor(np.zeros((0, c)) if posterior.unseen is None else posterior.unseen),
            feature_scale=tensor(correction.feature_scale),
        )


@dataclass(frozen=True, slots=True)
class _Items:
    """Environments of B structures: features (I, f), block (I,), weight (I,) and structure (I,) of each."""

    features: "Tensor"
    blocks: "Tensor"
    weights: "Tensor"
    owners: "Tensor"


@dataclass
class EmbeddingHead:
    """Adds E_Δ - kappa sigma to a foundation's energies, and remembers both; good for one evaluation.

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
    _energies: list[FloatArray] = field(default_factory=list)
    _deviations: list[FloatArray] = field(default_factory=list)

    def __call__(self, latent: "Latent") -> "Tensor":
        """(B,) energies in eV, attached to the features' graph."""
        import torch

        constants = self.correction.constants(str(latent.features.device))
        kinds = constants.kind_of[latent.numbers]
        n_species = len(self.correction.species)
        counts = torch.bincount(latent.owners * n_species + kinds, minlength=latent.count * n_species)
        counts = counts.reshape(latent.count, n_species).double()
        items = self._items(latent, kinds, counts, constants)
        scaled_by_length = self._blocks(items, constants)
        rows = self._rows(items, scaled_by_length, constants, latent.count)
        if len(constants.per_atom) == 1:
            counts = counts.sum(1, keepdim=True)
        energies = rows @ constants.weights + counts @ constants.per_atom
        self._energies.append(_array(energies))
        if not self.kappa:
            if self.uncertainty:
                with torch.no_grad():
                    self._deviations.append(_array(self._sigma(rows, items, scaled_by_length, counts)))
            return energies
        sigma = self._sigma(rows, items, scaled_by_length, counts)
        self._deviations.append(_array(sigma))
        return energies - self.kappa * sigma

    def results(self, n_structures: int) -> tuple[FloatArray, FloatArray]:
        """E_Δ (B,) and sigma (B,) in eV, NaN where it was not asked for, of all structures evaluated.

        Raises
        ------
        GodeltaError
            The foundation has shown it other than each structure once.
        """
        energies = np.concatenate([np.empty(0), *self._energies])
        if len(energies) != n_structures:
            raise GodeltaError(
                f"the foundation has shown {len(energies)} of {n_structures} structures to the correction",
                mend="report this as an error of godelta",
            )
        if not self._deviations:
            return energies, np.full(n_structures, np.nan)
        return energies, np.concatenate(self._deviations)

    def _items(self, latent: "Latent", kinds: "Tensor", counts: "Tensor", constants: Constants) -> _Items:
        import torch

        settings, features = self.correction.settings, latent.features.double()
        if settings.aggregation == "atomic":
            blocks = kinds if len(self.correction.kernel.inducing) > 1 else torch.zeros_like(kinds)
            return _Items(features, blocks, features.new_ones(len(features)), latent.owners)
        owners = torch.arange(latent.count, device=features.device)
        return _Items(
            pool_batch(features, kinds, latent.owners, counts, settings) / constants.feature_scale,
            torch.zeros_like(owners),
            counts.sum(1) / self.correction.size_scale,
            owners,
        )

    def _blocks(self, items: _Items, constants: Constants) -> list[tuple["Tensor", "Tensor"]]:
        """Indices (n_b,) and centred, scaled features (n_b, f) of each block's items."""
        result = []
        for b, (centre, _) in enumerate(constants.blocks):
            members = (items.blocks == b).nonzero(as_tuple=True)[0]
            X = (items.features[members] - centre) / self.correction.kernel.length_scale
            result.append((members, X))
        return result

    def _rows(
        self, items: _Items, blocks: list[tuple["Tensor", "Tensor"]], constants: Constants, count: int
    ) -> "Tensor":
        """(B, M) kernel of the structures with the inducing points."""
        import torch

        parts = []
        for (members, X), (_, points) in zip(blocks, constants.blocks, strict=True):
            K = items.weights[members, None] * _squared_exponential(X, points)
            parts.append(K.new_zeros(count, len(points)).index_add(0, items.owners[members], K))
        return torch.cat(parts, dim=1)

    def _sigma(
        self, rows: "Tensor", items: _Items, blocks: list[tuple["Tensor", "Tensor"]], counts: "Tensor"
    ) -> "Tensor":
        """(B,) standard deviations in eV."""
        import torch

        constants = self.correction.constants(str(rows.device))
        posterior = self.correction.posterior
        scaled = posterior.mean_scale * counts
        seen = torch.cat([rows, scaled], dim=1) @ constants.projection.T
        relative = (scaled**2).sum(1) + ((counts @ constants.unseen.T) ** 2).sum(1) - (seen**2).sum(1)
        for members, X in blocks:
            relative = relative + _self_kernel(X, items.weights[members], items.owners[members], len(rows))
        return posterior.amplitude * relative.clamp(min=1e-12).sqrt()


def _squared_exponential(X: "Tensor", Y: "Tensor") -> "Tensor":
    """exp(-|x - y|²/2) for X (..., n, f) and Y (..., m, f)."""
    half_x, half_y = 0.5 * (X * X).sum(-1), 0.5 * (Y * Y).sum(-1)
    return (X @ Y.transpose(-1, -2) - half_x[..., :, None] - half_y[..., None, :]).exp()


def _self_kernel(X: "Tensor", weights: "Tensor", owners: "Tensor", count: int) -> "Tensor":
    """(B,) sums of w_i w_j k(x_i, x_j) over the pairs of each structure; owners ascend."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    sizes = torch.bincount(owners, minlength=count).tolist()
    padded = pad_sequence(list(torch.split(X, sizes)), batch_first=True)
    w = pad_sequence(list(torch.split(weights, sizes)), batch_first=True)
    return ((_squared_exponential(padded, padded) @ w[..., None])[..., 0] * w).sum(1)


def _array(tensor: "Tensor") -> FloatArray:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)

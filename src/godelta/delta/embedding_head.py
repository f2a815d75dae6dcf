"""The correction on a foundation's features as a function that PyTorch differentiates.

The foundation calls it in the middle of its own pass, so that forces and stresses of foundation + Δ - kappa
sigma come from one backward pass. All algebra is in float64, whatever the foundation computes in.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from godelta.arrays import FloatArray
from godelta.delta.aggregation import pool_batch, pull_back_batch
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

        from godelta.delta.known_gradient import KnownGradient

        with torch.no_grad():
            values, gradient = self._evaluate(latent)
        return KnownGradient.apply(latent.features, values, gradient, latent.owners)  # type: ignore[no-any-return, no-untyped-call]

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

    def _evaluate(self, latent: "Latent") -> tuple["Tensor", "Tensor"]:
        """Values (B,) and their derivatives by the features, (N, d)."""
        import torch

        constants = self.correction.constants(str(latent.features.device))
        kinds = constants.kind_of[latent.numbers]
        n_species, B = len(self.correction.species), latent.count
        counts = torch.bincount(latent.owners * n_species + kinds, minlength=B * n_species)
        counts = counts.reshape(B, n_species).double()
        blocks = self._blocks(latent, kinds, counts, constants)
        rows = torch.cat([block.row(B) for block in blocks], dim=1)
        by_size = counts if len(constants.per_atom) > 1 else counts.sum(1, keepdim=True)
        values = rows @ constants.weights + by_size @ constants.per_atom
        self._energies.append(_array(values))
        offsets = self.correction.kernel.offsets[:-1].tolist()
        weights = constants.weights.expand(B, -1)
        slope = torch.zeros_like(values)
        own = [block.with_itself(B) for block in blocks] if self.kappa or self.uncertainty else []
        if own:
            sigma, explained = self._sigma(rows, by_size, sum(total for total, _ in own), constants)
            self._deviations.append(_array(sigma))
            # d(-kappa sigma) = kappa s²/sigma (W^T W k_M) . dk_M - kappa s²/(2 sigma) dk**
            values = values - self.kappa * sigma
            slope = self.kappa * self.correction.posterior.amplitude**2 / sigma
            weights = weights + slope[:, None] * explained
        pairs = [pair for _, pair in own] or [None] * len(blocks)
        parts = []
        for block, begin, pair in zip(blocks, offsets, pairs, strict=True):
            part = block.gradient(weights[:, begin : begin + block.K.shape[1]])
            parts.append(part if pair is None else part - slope[block.owners, None] * pair)
        return values, self._on_atoms(torch.cat(parts), blocks, latent, kinds, counts)

    def _sigma(
        self, rows: "Tensor", by_size: "Tensor", own: "Tensor | int", constants: Constants
    ) -> tuple["Tensor", "Tensor"]:
        """Standard deviations (B,) in eV, and W^T W k_M (B, M); own: (B,) k** without composition."""
        import torch

        posterior = self.correction.posterior
        scaled = posterior.mean_scale * by_size
        seen = torch.cat([rows, scaled], dim=1) @ constants.projection.T
        relative = own + (scaled**2).sum(1) + ((by_size @ constants.unseen.T) ** 2).sum(1) - (seen**2).sum(1)
        sigma = posterior.amplitude * relative.clamp(min=1e-12).sqrt()
        return sigma, seen @ constants.projection[:, : self.correction.kernel.size]

    def _blocks(
        self, latent: "Latent", kinds: "Tensor", counts: "Tensor", constants: Constants
    ) -> list["_Block"]:
        import torch

        settings, features = self.correction.settings, latent.features.detach().double()
        length = self.correction.kernel.length_scale
        if settings.aggregation != "atomic":
            (centre, points), owners = constants.blocks[0], torch.arange(latent.count, device=kinds.device)
            pooled = pool_batch(features, kinds, latent.owners, counts, settings) / constants.feature_scale
            weights = counts.sum(1) / self.correction.size_scale
            return [_Block.of((pooled - centre) / length, points, weights, owners, None)]
        several = len(constants.blocks) > 1
        result = []
        for b, (centre, points) in enumerate(constants.blocks):
            members = (kinds == b if several else kinds >= 0).nonzero(as_tuple=True)[0]
            X = (features[members] - centre) / length
            result.append(_Block.of(X, points, None, latent.owners[members], members))
        return result

    def _on_atoms(
        self,
        gradient: "Tensor",
        blocks: list["_Block"],
        latent: "Latent",
        kinds: "Tensor",
        counts: "Tensor",
    ) -> "Tensor":
        """Derivatives by the atoms' features (N, d), of those by the scaled features of the blocks."""
        import torch

        gradient = gradient / self.correction.kernel.length_scale
        if self.correction.settings.aggregation != "atomic":
            constants = self.correction.constants(str(gradient.device))
            return pull_back_batch(
                gradient / constants.feature_scale, kinds, latent.owners, counts, self.correction.settings
            )
        places = torch.cat([block.members for block in blocks if block.members is not None])
        return torch.empty_like(gradient).index_copy_(0, places, gradient)


@dataclass(frozen=True, slots=True)
class _Block:
    """Environments of one block: n_b of B structures, in ascending order of these.

    X, points: features (n_b, f) and inducing points (m, f), centred and in units of the length scale.
    K: (n_b, m) kernel between them, times `weights` (n_b,); None: ones. owners: (n_b,) structures.
    members: (n_b,) atoms; None where the environments are structures.
    """

    X: "Tensor"
    points: "Tensor"
    K: "Tensor"
    weights: "Tensor | None"
    owners: "Tensor"
    members: "Tensor | None"

    @classmethod
    def of(
        cls,
        X: "Tensor",
        points: "Tensor",
        weights: "Tensor | None",
        owners: "Tensor",
        members: "Tensor | None",
    ) -> "_Block":
        K = _squared_exponential(X, points)
        return cls(X, points, K if weights is None else weights[:, None] * K, weights, owners, members)

    def row(self, count: int) -> "Tensor":
        """(B, m) kernel of the structures with the inducing points."""
        if self.members is None:
            return self.K
        return self.K.new_zeros(count, self.K.shape[1]).index_add(0, self.owners, self.K)

    def with_itself(self, count: int) -> tuple["Tensor", "Tensor | None"]:
        """(B,) sums of the kernel over the pairs of each structure's environments, and half their derivative.

        That is by X (n_b, f), None where it is zero: a structure is a single environment.
        """
        if self.weights is not None:
            return self.weights**2, None
        padded, here = self._padded(count)
        S = _squared_exponential(padded, padded) * here[:, :, None] * here[:, None, :]
        by_row = S.sum(2)
        return by_row.sum(1), (S @ padded - padded * by_row[..., None])[here]

    def gradient(self, weights: "Tensor") -> "Tensor":
        """(n_b, f) derivatives of rows . weights by X; weights (B, m)."""
        P = self.K * weights[self.owners]
        return P @ self.points - self.X * P.sum(1, keepdim=True)

    def _padded(self, count: int) -> tuple["Tensor", "Tensor"]:
        """X by structure, (B, longest, f), and which places are taken, (B, longest)."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        sizes = torch.bincount(self.owners, minlength=count)
        padded = pad_sequence(list(torch.split(self.X, sizes.tolist())), batch_first=True)
        here = torch.arange(padded.shape[1], device=sizes.device) < sizes[:, None]
        return padded, here


def _squared_exponential(X: "Tensor", Y: "Tensor") -> "Tensor":
    """exp(-|x - y|²/2) for X (..., n, f) and Y (..., m, f)."""
    half_x, half_y = 0.5 * (X * X).sum(-1), 0.5 * (Y * Y).sum(-1)
    return (X @ Y.transpose(-1, -2) - half_x[..., :, None] - half_y[..., None, :]).exp_()


def _array(tensor: "Tensor") -> FloatArray:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)

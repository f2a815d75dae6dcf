"""The sparse Gaussian process for a batch of structures, in PyTorch, with derivatives written out.

The equations are those of `sparse_gp`; all algebra is in float64, on the CPU or a GPU.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from godelta.arrays import FloatArray
from godelta.delta.local_kernel import LocalKernel
from godelta.delta.sparse_gp import Posterior

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TorchBlock:
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
    ) -> "TorchBlock":
        """The same with its kernel."""
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
        padded, here, places = self._padded(count)
        S = _squared_exponential(padded, padded) * here[:, :, None] * here[:, None, :]
        by_row = S.sum(2)
        return by_row.sum(1), (S @ padded - padded * by_row[..., None])[self.owners, places]

    def gradient(self, weights: "Tensor") -> "Tensor":
        """(n_b, f) derivatives of rows . weights by X; weights (B, m)."""
        P = self.K * weights[self.owners]
        return P @ self.points - self.X * P.sum(1, keepdim=True)

    def _padded(self, count: int) -> tuple["Tensor", "Tensor", "Tensor"]:
        """X by structure, (B, longest, f), which places are taken, (B, longest), and that of each X."""
        import torch

        sizes = torch.bincount(self.owners, minlength=count)
        places = torch.arange(len(self.owners), device=sizes.device) - (sizes.cumsum(0) - sizes)[self.owners]
        here = torch.arange(int(sizes.max()), device=sizes.device) < sizes[:, None]
        padded = self.X.new_zeros(count, here.shape[1], self.X.shape[1])
        padded[self.owners, places] = self.X
        return padded, here, places


@dataclass(frozen=True, slots=True)
class TorchGP:
    """A kernel and a posterior on a device, float64.

    blocks: centre (f,) and inducing points (m, f) of each, the points centred and in units of the length
    scale. offsets: where the inducing points of each begin. weights: (M,). per_atom: (c,) eV. projection:
    (rank, M + c). unseen: (k, c). length_scale, mean_scale, amplitude, discrepancy: as in `LocalKernel` and
    `Posterior`.
    """

    blocks: list[tuple["Tensor", "Tensor"]]
    offsets: list[int]
    weights: "Tensor"
    per_atom: "Tensor"
    projection: "Tensor"
    unseen: "Tensor"
    length_scale: float
    mean_scale: float
    amplitude: float
    discrepancy: float

    @classmethod
    def of(cls, kernel: LocalKernel, posterior: Posterior, device: str) -> "TorchGP":
        """Those of a trained model."""
        blocks = []
        for points in kernel.inducing:
            centre = points.mean(axis=0) if len(points) else np.zeros(points.shape[1])
            scaled = (points - centre) / kernel.length_scale
            blocks.append((to_tensor(centre, device), to_tensor(scaled, device)))
        c = len(posterior.mean)
        per_atom = posterior.mean + posterior.mean_scale * posterior.weights[kernel.size :]
        return cls(
            blocks=blocks,
            offsets=kernel.offsets[:-1].tolist(),
            weights=to_tensor(posterior.weights[: kernel.size], device),
            per_atom=to_tensor(per_atom, device),
            projection=to_tensor(posterior.projection, device),
            unseen=to_tensor(np.zeros((0, c)) if posterior.unseen is None else posterior.unseen, device),
            length_scale=kernel.length_scale,
            mean_scale=posterior.mean_scale,
            amplitude=posterior.amplitude,
            discrepancy=posterior.discrepancy,
        )

    def environments(self, features: "Tensor", kinds: "Tensor", owners: "Tensor") -> list[TorchBlock]:
        """The blocks of atoms with features (N, f), species indices (N,) and structures (N,)."""
        several = len(self.blocks) > 1
        result = []
        for b, (centre, points) in enumerate(self.blocks):
            members = (kinds == b if several else kinds >= 0).nonzero(as_tuple=True)[0]
            X = (features[members] - centre) / self.length_scale
            result.append(TorchBlock.of(X, points, None, owners[members], members))
        return result

    def evaluate(
        self, blocks: list[TorchBlock], counts: "Tensor", *, kappa: float = 0.0, uncertainty: bool = False
    ) -> tuple["Tensor", "Tensor | None", "Tensor"]:
        """Energies and uncertainties of B structures, and the derivative of E - kappa sigma.

        Parameters
        ----------
        counts
            (B, species) numbers of atoms.
        kappa
            Weight of sigma.
        uncertainty
            Whether sigma is wanted when kappa is 0.

        Returns
        -------
        tuple
            E and sigma (B,) in eV, sigma None where it was not asked for; derivatives by the features of the
            environments, of all blocks one after the other, (sum of n_b, f).
        """
        import torch

        B = len(counts)
        rows = torch.cat([block.row(B) for block in blocks], dim=1)
        by_size = counts if len(self.per_atom) > 1 else counts.sum(1, keepdim=True)
        energies = rows @ self.weights + by_size @ self.per_atom
        weights, slope = self.weights.expand(B, -1), torch.zeros_like(energies)
        sigma: Tensor | None = None
        pairs: list[Tensor | None] = [None] * len(blocks)
        if kappa or uncertainty:
            own = [block.with_itself(B) for block in blocks]
            pairs = [pair for _, pair in own]
            total = torch.stack([one for one, _ in own]).sum(0)
            sigma, explained = self._sigma(rows, by_size, total)
            # d(-kappa sigma) = kappa s²/sigma (W^T W k_M) . dk_M - kappa s²/(2 sigma) dk**
            slope = kappa * self.amplitude**2 / sigma
            weights = weights + slope[:, None] * explained
        parts = []
        for block, begin, pair in zip(blocks, self.offsets, pairs, strict=True):
            part = block.gradient(weights[:, begin : begin + block.K.shape[1]])
            parts.append(part if pair is None else part - slope[block.owners, None] * pair)
        return energies, sigma, torch.cat(parts) / self.length_scale

    def _sigma(self, rows: "Tensor", by_size: "Tensor", own: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Standard deviations (B,) in eV, and W^T W k_M (B, M); own: (B,) k** without composition."""
        import torch

        scaled = self.mean_scale * by_size
        seen = torch.cat([rows, scaled], dim=1) @ self.projection.T
        relative = own + (scaled**2).sum(1) + ((by_size @ self.unseen.T) ** 2).sum(1) - (seen**2).sum(1)
        relative = relative + self.discrepancy * by_size.sum(1)
        sigma = self.amplitude * relative.clamp(min=1e-12).sqrt()
        return sigma, seen @ self.projection[:, : len(self.weights)]


def in_order_of_atoms(gradient: "Tensor", blocks: list[TorchBlock]) -> "Tensor":
    """Derivatives (N, f) by atoms' features, from those of all blocks one after the other."""
    import torch

    places = torch.cat([block.members for block in blocks if block.members is not None])
    return torch.empty_like(gradient).index_copy_(0, places, gradient)


def numbers_of_atoms(kinds: "Tensor", owners: "Tensor", count: int, n_species: int) -> "Tensor":
    """(B, species) numbers of atoms, float64, of B structures."""
    import torch

    flat = torch.bincount(owners * n_species + kinds, minlength=count * n_species)
    return flat.reshape(count, n_species).double()


def to_tensor(array: FloatArray, device: str) -> "Tensor":
    """A copy in float64 on the device."""
    import torch

    return torch.tensor(array, dtype=torch.float64, device=device)


def to_array(tensor: "Tensor") -> FloatArray:
    """The numbers of a tensor, on the CPU."""
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64)


def _squared_exponential(X: "Tensor", Y: "Tensor") -> "Tensor":
    """exp(-|x - y|²/2) for X (..., n, f) and Y (..., m, f)."""
    half_x, half_y = 0.5 * (X * X).sum(-1), 0.5 * (Y * Y).sum(-1)
    return (X @ Y.transpose(-1, -2) - half_x[..., :, None] - half_y[..., None, :]).exp_()

"""The SOAP descriptor of many structures at once, in PyTorch; imports torch, so import it where it is used.

The convention is that of `soap_kernels`. Neighbours are padded to the same number for all atoms, so that
everything is a product of small matrices: no sum depends on the order in which a GPU's threads arrive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from godelta.arrays import FloatArray, IntArray
from godelta.delta.soap import SOAP


@dataclass(frozen=True, slots=True)
class TorchEnvironments:
    """The N atoms of B structures, with up to J neighbours each.

    kinds, owners: (N,) species indices, and the structures, ascending from 0. vectors: (N, J, 3) to the
    neighbours in Å, as long as the cutoff where there is none. species: (N, J, S) ones for the species of the
    neighbours, zeros where there is none. places: (2, P) where each pair is in the flattened N x J, as seen
    from its first and from its second atom.
    """

    kinds: Tensor
    owners: Tensor
    vectors: Tensor
    species: Tensor
    places: Tensor


class TorchSOAP:
    """SOAP power spectra on a device, float64, with a vector-Jacobian product.

    Parameters
    ----------
    soap
        The descriptor.
    device
        As PyTorch names it.
    """

    def __init__(self, soap: SOAP, device: str) -> None:
        self.soap, self.device = soap, device
        basis = soap.basis
        self._decay, self._prefactor = self._float64(basis.decay), self._float64(basis.prefactor)
        self._mixing, self._norms = self._float64(basis.mixing), basis.harmonics.tolist()
        self._order = torch.as_tensor(_places_of_products(soap), device=device)

    def environments(self, structures: Sequence[Atoms]) -> TorchEnvironments:
        """Neighbours of the atoms of at least one structure.

        Raises
        ------
        InputError
            As `SOAP.describe`.
        """
        found = [self.soap.neighbours(atoms) for atoms in structures]
        sizes = np.array([len(atoms) for atoms in structures])
        pairs = np.array([len(indices) for _, indices, _ in found])
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        kinds = self._whole(np.concatenate([kinds for kinds, _, _ in found]))
        owners = self._whole(np.repeat(np.arange(len(sizes)), sizes))
        indices = self._whole(np.concatenate([indices for _, indices, _ in found]))
        indices += self._whole(np.repeat(first, pairs))[:, None]
        vectors = self._float64(np.concatenate([vectors for _, _, vectors in found]))
        return self._padded(kinds, owners, indices, vectors)

    def features(self, environments: TorchEnvironments, vectors: Tensor) -> Tensor:
        """(N, n_features) power spectra; vectors: those of the environments, attached to a graph or not."""
        e, basis = environments, self.soap.basis
        n_l, n_max = basis.decay.shape
        N, J, S = e.species.shape
        r2 = (vectors * vectors).sum(-1)
        radial = (
            self._weighting(r2)[..., None, None]
            * self._prefactor
            * (-self._decay * r2[..., None, None]).exp()
        )
        harmonics = solid_harmonics(vectors, r2, self._norms)
        own = torch.nn.functional.one_hot(e.kinds, S).to(r2)[:, None, :, None]
        spectra = []
        for l in range(n_l):  # noqa: E741
            by_species = (e.species[..., None] * radial[:, :, None, l]).reshape(N, J, S * n_max)
            density = (harmonics[l].transpose(1, 2) @ by_species).view(N, 2 * l + 1, S, n_max)
            if l == 0:
                density = density + own * (self._prefactor[0] * self._norms[0][0])
            c = (density @ self._mixing[l].T).view(N, 2 * l + 1, S * n_max)
            spectra.append(pi * sqrt(8.0 / (2 * l + 1)) * (c.transpose(1, 2) @ c))
        return torch.stack(spectra, dim=1).view(N, -1)[:, self._order]

    def on_positions(self, environments: TorchEnvironments, by_vectors: Tensor) -> Tensor:
        """Derivatives by positions (N, 3), of those by the vectors (N, J, 3)."""
        flat = by_vectors.reshape(-1, 3)
        forth, back = environments.places
        along = flat[forth] - flat[back]
        total = torch.zeros_like(flat)
        total[forth], total[back] = -along, along
        return total.view(by_vectors.shape).sum(1)

    def _padded(self, kinds: Tensor, owners: Tensor, indices: Tensor, vectors: Tensor) -> TorchEnvironments:
        """From pairs (P, 2), each once, and vectors (P, 3) between them."""
        N, S = len(kinds), self.soap.basis.n_species
        centres, others = indices.T.reshape(-1), indices.flip(1).T.reshape(-1)
        counts = torch.bincount(centres, minlength=N)
        J = max(int(counts.max()), 1)
        order = torch.argsort(centres, stable=True)
        begins = counts.cumsum(0) - counts
        ranks = torch.empty_like(centres)
        ranks[order] = torch.arange(len(centres), device=self.device) - begins[centres[order]]
        places = centres * J + ranks
        padded = vectors.new_zeros(N * J, 3)
        padded[:, 0] = self.soap.basis.r_cut
        padded[places] = torch.cat([vectors, -vectors])
        species = vectors.new_zeros(N * J, S)
        species[places, kinds[others]] = 1.0
        return TorchEnvironments(
            kinds, owners, padded.view(N, J, 3), species.view(N, J, S), places.view(2, len(indices))
        )

    def _weighting(self, r2: Tensor) -> Tensor:
        """w(r) = [1 + 2u³ - 3u²]^m, u = r/r_cut."""
        u = r2.clamp(min=1e-24).sqrt() / self.soap.basis.r_cut  # the root has no slope at zero
        b = (1.0 + u * u * (2.0 * u - 3.0)).clamp(min=0.0)
        return b * b if self.soap.basis.power == 2.0 else b**self.soap.basis.power

    def _float64(self, values: FloatArray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64, device=self.device)

    def _whole(self, values: IntArray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.int64, device=self.device)


def solid_harmonics(vectors: Tensor, r2: Tensor, norms: list[list[float]]) -> list[Tensor]:
    """Real solid harmonics of vectors (..., 3), by l, each (..., 2l+1), m from -l to l.

    norms: F[l][m]; S_l,±m = F[l,m] Q_lm(z, r²) Re|Im (x+iy)^m, as in `soap_kernels`.
    """
    l_max = len(norms) - 1
    x, y, z = vectors.unbind(-1)
    real, imaginary = [torch.ones_like(x)], [torch.zeros_like(x)]
    for m in range(l_max):
        real.append(x * real[m] - y * imaginary[m])
        imaginary.append(x * imaginary[m] + y * real[m])
    q: dict[tuple[int, int], Tensor] = {(0, 0): torch.ones_like(x)}
    for m in range(1, l_max + 1):
        q[m, m] = -(2 * m - 1) * q[m - 1, m - 1]
    for m in range(l_max):
        q[m + 1, m] = (2 * m + 1) * z * q[m, m]
        for l in range(m + 2, l_max + 1):  # noqa: E741
            q[l, m] = ((2 * l - 1) * z * q[l - 1, m] - (l + m - 1) * r2 * q[l - 2, m]) / (l - m)
    result = []
    for l in range(l_max + 1):  # noqa: E741
        scaled = [norms[l][m] * q[l, m] for m in range(l + 1)]
        negative = [scaled[m] * imaginary[m] for m in range(l, 0, -1)]
        result.append(torch.stack([*negative, *(scaled[m] * real[m] for m in range(l + 1))], dim=-1))
    return result


def _places_of_products(soap: SOAP) -> IntArray:
    """(n_features,) where each feature is among the products of all channels by l, flattened."""
    slots, channels = soap.basis.slots, soap.basis.n_species * soap.basis.decay.shape[1]
    a, b = np.triu_indices(channels)
    order = np.empty(slots.size, dtype=np.int64)
    for l in range(len(slots)):  # noqa: E741
        order[slots[l]] = l * channels**2 + a * channels + b
    return order

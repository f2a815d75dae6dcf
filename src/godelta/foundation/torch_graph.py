"""What all potentials built with PyTorch share: one pass forward, one backward, for many structures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from godelta.arrays import FloatArray
from godelta.foundation.base import FoundationBatch, FoundationIdentity

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Latent:
    """The atoms of B structures as a potential sees them, attached to its graph; N atoms in all.

    Parameters
    ----------
    features
        (N, d) invariant features of the atoms, in the potential's own precision.
    numbers
        (N,) atomic numbers.
    owners
        (N,) the structure of each atom, ascending from 0.
    count
        B.
    """

    features: "Tensor"
    numbers: "Tensor"
    owners: "Tensor"
    count: int


Head = Callable[[Latent], "Tensor"]  # energies (B,) in eV that are added, differentiable in the features


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass forward.

    Parameters
    ----------
    energies
        (B,) in eV.
    latent
        The atoms' features.
    positions
        What forces are derivatives with respect to: tensors whose rows are all N atoms in their order.
    strains
        What stresses are derivatives with respect to, (3, 3) each or one of (B, 3, 3); none where no stress
        was asked for.
    volumes
        (B,) in Å³.
    site_energies
        (N,) in eV, what of the energy the potential puts on each atom; None where it does not say.
    """

    energies: "Tensor"
    latent: Latent
    positions: list["Tensor"]
    strains: list["Tensor"]
    volumes: "Tensor"
    site_energies: "Tensor | None" = None


class TorchFoundation(ABC):
    """A potential with features of atoms: `Foundation` and `EmbeddingFoundation`."""

    @property
    @abstractmethod
    def identity(self) -> FoundationIdentity:
        """What has to be known to reproduce an energy."""

    @property
    @abstractmethod
    def feature_size(self) -> int:
        """Number of features of an atom."""

    @abstractmethod
    def _forward(self, structures: Sequence[Atoms], *, stress: bool) -> Pass:
        """One pass forward of at least one structure, with gradients to come."""

    def evaluate(self, structures: Sequence[Atoms]) -> FoundationBatch:
        """Energies (B,) in eV and forces, B arrays (n_i, 3) in eV/Å."""
        return self.evaluate_with(structures)

    def evaluate_with(
        self, structures: Sequence[Atoms], head: Head | None = None, *, stress: bool = False
    ) -> FoundationBatch:
        """The same with a function of the features added, whose forces come from the same backward pass.

        Parameters
        ----------
        head
            Energies (B,) in eV from the features of the atoms.
        stress
            Whether stresses are wanted.

        Returns
        -------
        FoundationBatch
            `energies` are the potential's own; forces and stresses are those of the sum.
        """
        import torch

        if not structures:
            return FoundationBatch(
                np.empty(0), [], np.empty((0, 3, 3)) if stress else None, np.empty(0) if head else None
            )
        done = self._forward(structures, stress=stress)
        added = head(done.latent) if head is not None else None
        total = done.energies.sum() if added is None else done.energies.sum() + added.sum()
        wanted = [*done.positions, *done.strains]
        gradients = torch.autograd.grad(total, wanted, allow_unused=True)
        # An atom that feels nothing, or a structure of such atoms, is in no graph.
        filled = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True)]
        per_atom = torch.cat(filled[: len(done.positions)])
        ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
        return FoundationBatch(
            energies=_array(done.energies),
            forces=np.split(-_array(per_atom), ends),
            stresses=_stresses(filled[len(done.positions) :], done.volumes) if stress else None,
            added=None if added is None else _array(added),
        )

    def features(self, structures: Sequence[Atoms]) -> list[FloatArray]:
        """Features of the atoms, B arrays (n_i, d)."""
        if not structures:
            return []
        latent = self._forward(structures, stress=False).latent
        ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
        return np.split(_array(latent.features), ends)

    def site_energies(self, structures: Sequence[Atoms]) -> list[FloatArray] | None:
        """What of the energy is put on each atom, B arrays (n_i,) in eV; None where nothing says so."""
        if not structures:
            return []
        sites = self._forward(structures, stress=False).site_energies
        if sites is None:
            return None
        return np.split(_array(sites), np.cumsum([len(atoms) for atoms in structures])[:-1])


def _array(tensor: "Tensor") -> FloatArray:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def _stresses(gradients: list["Tensor"], volumes: "Tensor") -> FloatArray:
    """(B, 3, 3) in eV/Å³ from derivatives with respect to strains."""
    virials = np.concatenate([_array(g).reshape(-1, 3, 3) for g in gradients])
    symmetric: FloatArray = 0.5 * (virials + virials.transpose(0, 2, 1)) / _array(volumes)[:, None, None]
    return symmetric

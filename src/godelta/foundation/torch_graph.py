"""What all potentials built with PyTorch share: one pass forward, one backward, for many structures."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from ase import Atoms

from godelta.arrays import FloatArray
from godelta.foundation.base import FoundationBatch, FoundationIdentity
from godelta.foundation.pieces import Pieces

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
    first
        Which structure of the whole batch the first one is, where the batch is evaluated in pieces.
    """

    features: "Tensor"
    numbers: "Tensor"
    owners: "Tensor"
    count: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Added:
    """Energies (B,) in eV that are functions of features, and their derivatives (N, d) by these."""

    energies: FloatArray
    gradient: "Tensor"


Head = Callable[[Latent], Added]


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
    """A potential with features of atoms: `Foundation` and `EmbeddingFoundation`.

    Large batches are evaluated in pieces, see `Pieces`. How a batch is cut decides last bits only, and is the
    same whenever it is evaluated again.
    """

    cpu_atoms: ClassVar[int | None] = None  # of a pass on a CPU beyond which larger ones are slower

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
            Energies (B,) in eV, and their derivatives, from the features of the atoms.
        stress
            Whether stresses are wanted.

        Returns
        -------
        FoundationBatch
            `energies` are the potential's own; forces and stresses are those of the sum.
        """
        if not structures:
            return FoundationBatch(
                np.empty(0), [], np.empty((0, 3, 3)) if stress else None, np.empty(0) if head else None
            )
        parts = self._pieces.evaluate(
            structures, lambda piece: self._evaluate(structures[piece], head, piece.start, stress=stress)
        )
        return FoundationBatch(
            energies=np.concatenate([part.energies for part in parts]),
            forces=[forces for part in parts for forces in part.forces],
            stresses=_joined([part.stresses for part in parts]),
            added=_joined([part.added for part in parts]),
        )

    def features(self, structures: Sequence[Atoms]) -> list[FloatArray]:
        """Features of the atoms, B arrays (n_i, d)."""

        def work(piece: slice) -> list[FloatArray]:
            latent = self._forward(structures[piece], stress=False).latent
            return _by_structure(_array(latent.features), structures[piece])

        return [features for part in self._pieces.evaluate(structures, work) for features in part]

    def site_energies(self, structures: Sequence[Atoms]) -> list[FloatArray] | None:
        """What of the energy is put on each atom, B arrays (n_i,) in eV; None where nothing says so."""

        def work(piece: slice) -> list[FloatArray] | None:
            sites = self._forward(structures[piece], stress=False).site_energies
            return None if sites is None else _by_structure(_array(sites), structures[piece])

        parts = self._pieces.evaluate(structures, work)
        known = [part for part in parts if part is not None]
        return [sites for part in known for sites in part] if len(known) == len(parts) else None

    @cached_property
    def _pieces(self) -> Pieces:
        on_cpu = self.identity.device == "cpu"
        return Pieces(self.identity.name, self.cpu_atoms if on_cpu else None)

    def _evaluate(
        self, structures: Sequence[Atoms], head: Head | None, first: int, *, stress: bool
    ) -> FoundationBatch:
        """One pass forward and one backward; first: which one of the batch the first structure is."""
        import torch

        done = self._forward(structures, stress=stress)
        added = head(replace(done.latent, first=first)) if head is not None else None
        wanted, features = [*done.positions, *done.strains], done.latent.features
        roots, seeds = [done.energies], [torch.ones_like(done.energies)]
        # A graph from features to what is added would cost more than the addition, for small structures.
        if added is not None and features.requires_grad:
            roots.append(features)
            seeds.append(added.gradient.to(features))
        gradients = torch.autograd.grad(roots, wanted, seeds, allow_unused=True)
        # An atom that feels nothing, or a structure of such atoms, is in no graph.
        filled = [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, gradients, strict=True)]
        per_atom = torch.cat(filled[: len(done.positions)])
        return FoundationBatch(
            energies=_array(done.energies),
            forces=_by_structure(-_array(per_atom), structures),
            stresses=_stresses(filled[len(done.positions) :], done.volumes) if stress else None,
            added=None if added is None else added.energies,
        )


def _by_structure(per_atom: FloatArray, structures: Sequence[Atoms]) -> list[FloatArray]:
    return np.split(per_atom, np.cumsum([len(atoms) for atoms in structures])[:-1])


def _joined(parts: Sequence[FloatArray | None]) -> FloatArray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known else None


def _array(tensor: "Tensor") -> FloatArray:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def _stresses(gradients: list["Tensor"], volumes: "Tensor") -> FloatArray:
    """(B, 3, 3) in eV/Å³ from derivatives with respect to strains."""
    virials = np.concatenate([_array(g).reshape(-1, 3, 3) for g in gradients])
    symmetric: FloatArray = 0.5 * (virials + virials.transpose(0, 2, 1)) / _array(volumes)[:, None, None]
    return symmetric

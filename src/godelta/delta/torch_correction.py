"""The Δ-model on SOAP for many structures in one pass of PyTorch: what a GPU is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from godelta.arrays import FloatArray
from godelta.delta.displaced import moving_atoms
from godelta.delta.torch_gp import TorchGP, in_order_of_atoms, numbers_of_atoms, to_array
from godelta.foundation.pieces import Pieces

if TYPE_CHECKING:
    from godelta.delta.model import Correction
    from godelta.delta.torch_soap import TorchSOAP


@dataclass(frozen=True)
class TorchCorrection:
    """A trained Δ-model on a device, in float64; equals `Correction.predict` to round-off.

    Parameters
    ----------
    correction
        The model.
    device
        As PyTorch names it.
    """

    correction: "Correction"
    device: str

    @cached_property
    def _soap(self) -> "TorchSOAP":
        from godelta.delta.torch_soap import TorchSOAP

        return TorchSOAP(self.correction.soap, self.device)

    @cached_property
    def _gp(self) -> TorchGP:
        return TorchGP.of(self.correction.kernel, self.correction.posterior, self.device)

    @cached_property
    def _pieces(self) -> Pieces:
        return Pieces("the Δ-model")

    def evaluate(
        self, structures: Sequence[Atoms], *, kappa: float = 0.0, uncertainty: bool = False
    ) -> tuple[FloatArray, list[FloatArray], FloatArray]:
        """Energies (B,) in eV, forces of E - kappa sigma in eV/Å, and sigma (B,) in eV, NaN if not asked for.

        Forces on atoms under ASE's FixAtoms are zero.

        Raises
        ------
        InputError
            A structure holds a species that the model does not know, or has no cell where it is periodic.
        GodeltaError
            A single structure does not fit into the memory of the GPU.
        """
        parts = self._pieces.evaluate(
            structures, lambda piece: self._evaluate(structures[piece], kappa, uncertainty)
        )
        energies = np.concatenate([np.empty(0), *(part[0] for part in parts)])
        sigma = np.concatenate([np.empty(0), *(part[2] for part in parts)])
        return energies, [forces for part in parts for forces in part[1]], sigma

    def _evaluate(
        self, structures: Sequence[Atoms], kappa: float, uncertainty: bool
    ) -> tuple[FloatArray, list[FloatArray], FloatArray]:
        """One pass forward and one backward, of at least one structure."""
        import torch

        soap, B = self._soap, len(structures)
        environments = soap.environments(structures)
        vectors = environments.vectors.requires_grad_(True)
        features = soap.features(environments, vectors)
        kinds, owners = environments.kinds, environments.owners
        with torch.no_grad():
            counts = numbers_of_atoms(kinds, owners, B, len(self.correction.species))
            blocks = self._gp.environments(features.detach(), kinds, owners)
            energies, sigma, gradient = self._gp.evaluate(
                blocks, counts, kappa=kappa, uncertainty=uncertainty
            )
            by_features = in_order_of_atoms(gradient, blocks)
        (by_vectors,) = torch.autograd.grad(features, vectors, by_features)
        forces = -to_array(soap.on_positions(environments, by_vectors))
        ends = np.cumsum([len(atoms) for atoms in structures])[:-1]
        return (
            to_array(energies),
            [_held(atoms, part) for atoms, part in zip(structures, np.split(forces, ends), strict=True)],
            np.full(B, np.nan) if sigma is None else to_array(sigma),
        )


def _held(atoms: Atoms, forces: FloatArray) -> FloatArray:
    moving = moving_atoms(atoms)
    return forces if moving is None else np.where(moving[:, None], forces, 0.0)

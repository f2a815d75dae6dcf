"""What every potential offers: energies and forces of many structures in one call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ase import Atoms
from pydantic import Field

from godelta.arrays import FloatArray
from godelta.settings import Settings

if TYPE_CHECKING:
    from godelta.foundation.torch_graph import Head


class FoundationIdentity(Settings):
    """What has to be known to reproduce a foundation energy."""

    name: str = Field(description="name in the registry, e.g. chgnet")
    version: str = Field(description="version of the package that evaluates it")
    weights_sha256: str | None = Field(description="hash of the weights, None without a weight file")
    dtype: str = Field(description="floating-point type of the evaluation")
    device: str = Field(description="cpu or cuda")
    energy_scale: str = Field(description="convention of the energies, e.g. mp2020-corrected")


@dataclass(frozen=True, slots=True)
class FoundationBatch:
    """Results for B structures.

    energies: (B,) in eV. forces: B arrays (n_i, 3) in eV/Å. stresses: (B, 3, 3) in eV/Å³, where asked for.
    added: (B,) in eV, what a function of the features has added; not in `energies`.
    """

    energies: FloatArray
    forces: list[FloatArray]
    stresses: FloatArray | None = None
    added: FloatArray | None = None


class Foundation(Protocol):
    """A pretrained potential; structures always carry a cell, and are treated as 3-D periodic."""

    @property
    def identity(self) -> FoundationIdentity:
        """What has to be known to reproduce an energy."""
        ...

    def evaluate(self, structures: Sequence[Atoms]) -> FoundationBatch:
        """Energies [eV] and forces [eV/Å] of the structures, in their order."""
        ...


@runtime_checkable
class EmbeddingFoundation(Foundation, Protocol):
    """A foundation that has features of atoms, and takes energies that are functions of them."""

    @property
    def feature_size(self) -> int:
        """Number of features of an atom."""
        ...

    def features(self, structures: Sequence[Atoms]) -> list[FloatArray]:
        """Features of the atoms, B arrays (n_i, d)."""
        ...

    def site_energies(self, structures: Sequence[Atoms]) -> list[FloatArray] | None:
        """What of the energy is put on each atom, B arrays (n_i,) in eV; None where nothing says so."""
        ...

    def evaluate_with(
        self, structures: Sequence[Atoms], head: "Head | None" = None, *, stress: bool = False
    ) -> FoundationBatch:
        """Forces and stresses of the potential and of energies added to it, from one backward pass."""
        ...


@dataclass(frozen=True, slots=True)
class PotentialBatch:
    """Results for B structures of a potential that knows its own uncertainty.

    energies, foundation_energies, uncertainties: (B,) in eV. forces: B arrays (n_i, 3) in eV/Å, the
    negative gradient of `energies - kappa * uncertainties` for the kappa that was asked for.
    uncertainties are NaN where there is no correction yet, and where they were not asked for.
    stresses: (B, 3, 3) in eV/Å³ of the same, where asked for.
    """

    energies: FloatArray
    forces: list[FloatArray]
    foundation_energies: FloatArray
    uncertainties: FloatArray
    stresses: FloatArray | None = None


class Potential(Protocol):
    """What a search runs on: foundation + Δ."""

    def evaluate(
        self, structures: Sequence[Atoms], *, kappa: float = 0.0, uncertainty: bool = False
    ) -> PotentialBatch:
        """Evaluate the structures; `kappa` > 0 makes the forces those of E - kappa sigma."""
        ...

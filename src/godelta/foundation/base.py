"""What every potential offers: energies and forces of many structures in one call."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ase import Atoms
from pydantic import Field

from godelta.arrays import FloatArray
from godelta.settings import Settings


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
    """Results for B structures: energies (B,) in eV; forces, B arrays (n_i, 3) in eV/Å."""

    energies: FloatArray
    forces: list[FloatArray]


class Foundation(Protocol):
    """A pretrained potential; structures always carry a cell, and are treated as 3-D periodic."""

    @property
    def identity(self) -> FoundationIdentity:
        """What has to be known to reproduce an energy."""
        ...

    def evaluate(self, structures: Sequence[Atoms]) -> FoundationBatch:
        """Energies [eV] and forces [eV/Å] of the structures, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class PotentialBatch:
    """Results for B structures of a potential that knows its own uncertainty.

    energies, foundation_energies, uncertainties: (B,) in eV. forces: B arrays (n_i, 3) in eV/Å, the
    negative gradient of `energies - kappa * uncertainties` for the kappa that was asked for.
    uncertainties are NaN where there is no correction yet, and where they were not asked for.
    """

    energies: FloatArray
    forces: list[FloatArray]
    foundation_energies: FloatArray
    uncertainties: FloatArray


class Potential(Protocol):
    """What a search runs on: foundation + Δ."""

    def evaluate(
        self, structures: Sequence[Atoms], *, kappa: float = 0.0, uncertainty: bool = False
    ) -> PotentialBatch:
        """Evaluate the structures; `kappa` > 0 makes the forces those of E - kappa sigma."""
        ...

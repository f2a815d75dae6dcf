"""Settings of the reference level: what counts as truth, and the limits of one evaluation."""

from typing import Annotated, Any, Literal

from pydantic import Field

from godelta.settings import Settings


class Limits(Settings):
    """Limits of one evaluation; they change no number, so they are not part of the reference hash."""

    wall_seconds: float = Field(600.0, gt=0, description="wall time of one evaluation, s")
    memory_mb: float = Field(4096.0, gt=0, description="resident memory of the evaluation and its children")
    threads: int = Field(1, ge=1, description="threads of the engine's numerical libraries")
    command_prefix: tuple[str, ...] = Field((), description="e.g. [srun, --exact, -n, '16']")
    min_distance_factor: float = Field(
        0.5, ge=0, description="refuse structures with a distance below this times the sum of covalent radii"
    )
    max_force: float = Field(50.0, gt=0, description="refuse results with a larger force, eV/Å")
    max_net_force: float = Field(
        0.1, gt=0, description="refuse results with a larger sum of all forces per atom, eV/Å"
    )


class XTBSettings(Settings):
    """GFN1-xTB by tblite: clusters (no periodic boundary)."""

    engine: Literal["xtb"] = "xtb"
    method: Literal["GFN1-xTB"] = "GFN1-xTB"
    accuracy: float = Field(1.0, gt=0, description="tblite's accuracy: smaller is tighter")
    electronic_temperature: float = Field(300.0, ge=0, description="K")
    max_iterations: int = Field(500, ge=1, description="most iterations of the self-consistent field")
    limits: Limits = Limits()


class EMTSettings(Settings):
    """Effective-medium theory of ASE: Al, Cu, Ag, Au, Ni, Pd, Pt (and H, C, N, O crudely)."""

    engine: Literal["emt"] = "emt"
    limits: Limits = Limits()


class ASESettings(Settings):
    """Any ASE calculator by import path."""

    engine: Literal["ase"] = "ase"
    calculator: str = Field(description="import path, e.g. ase.calculators.lj.LennardJones")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the calculator")
    limits: Limits = Limits()


class GPAWSettings(Settings):
    """GPAW plane waves, PBE.

    `pbe-light` is meant for Ag/Au-S clusters on a laptop; `pbe-production` takes the full PAW setups, 500 eV,
    a k-point density for periodic directions and a dipole correction for slabs.
    """

    engine: Literal["gpaw"] = "gpaw"
    settings: Literal["pbe-light", "pbe-production"] = "pbe-light"
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="gpaw.GPAW arguments, on top of the preset"
    )
    limits: Limits = Limits(wall_seconds=7200.0)


ReferenceSettings = Annotated[
    XTBSettings | EMTSettings | ASESettings | GPAWSettings, Field(discriminator="engine")
]

"""Settings of the reference level: what counts as truth, and the limits of one evaluation."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from godelta.settings import Settings


def _absolute(path: str) -> str:
    """Workers and engines run in other folders than the one that a campaign file lies in."""
    if not path.startswith(("/", "~")):
        raise ValueError("give an absolute path, or one that begins with ~")
    return path


def _in_path_or_absolute(command: str) -> str:
    words = command.split()
    if not words:
        raise ValueError("a command is needed")
    if "/" in words[0] and not words[0].startswith("/"):
        raise ValueError("give a name that is in PATH, or an absolute path")
    return command


Folder = Annotated[str, AfterValidator(_absolute)]
Command = Annotated[str, AfterValidator(_in_path_or_absolute)]


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


class PlaneWaveSettings(Settings):
    """What engines have in common whose program is one of its own, in plane waves."""

    kpoint_density: float = Field(
        3.0, gt=0, description="points per Å⁻¹ along periodic directions, in a grid with Γ"
    )
    kpoints: tuple[int, int, int] | None = Field(
        None, description="a grid in place of the density, for cells of one size only"
    )
    dipole_correction: bool = Field(
        True, description="of slabs (periodic in x and y alone), against the field of their images"
    )
    limits: Limits = Limits(wall_seconds=7200.0)


class EspressoSettings(PlaneWaveSettings):
    """pw.x of Quantum ESPRESSO, with pseudopotentials of one's own; Ry and bohr, as in its own input."""

    engine: Literal["espresso"] = "espresso"
    command: Command = Field("pw.x", description="the program; `limits.command_prefix` launches it")
    version: str | None = Field(
        None, description="of the program, e.g. 6.7MaX; where it is not given, the program is asked"
    )
    pseudo_dir: Folder | None = Field(
        None, description="folder of the pseudopotentials; $ESPRESSO_PSEUDO if not given"
    )
    pseudopotentials: dict[str, str] = Field(min_length=1, description="a file for each element")
    ecutwfc: float = Field(60.0, gt=0, description="cutoff of the wave functions, Ry")
    ecutrho: float = Field(480.0, gt=0, description="cutoff of the density, Ry; 4 ecutwfc if norm-conserving")
    smearing: Literal["gaussian", "marzari-vanderbilt", "methfessel-paxton", "fermi-dirac"] = "gaussian"
    degauss: float = Field(0.01, ge=0, description="width of the smearing, Ry; 0: fixed occupations")
    conv_thr: float = Field(1e-8, gt=0, description="threshold of self-consistency, Ry")
    max_iterations: int = Field(100, ge=1, description="most iterations of the self-consistent field")
    starting_magnetization: dict[str, float] = Field(
        default_factory=dict, description="by element, -1 to 1; any makes the calculation spin-polarised"
    )
    input_data: dict[str, Any] = Field(
        default_factory=dict, description="any other key of pw.x, alone or below its section"
    )


class VASPSettings(PlaneWaveSettings):
    """VASP, with the POTCAR files of one's own licence."""

    engine: Literal["vasp"] = "vasp"
    command: Command = Field("vasp_std", description="the program; `limits.command_prefix` launches it")
    version: str = Field(description="of the program, e.g. 6.4.3; results of another one are refused")
    pp_path: Folder | None = Field(None, description="folder above `potcar_set`; $VASP_PP_PATH if not given")
    potcar_set: str = Field("potpaw_PBE.54", min_length=1, description="folder of the POTCAR files")
    potcars: dict[str, str] = Field(min_length=1, description="e.g. {Cu: Cu_pv, O: O}")
    xc: str = Field("pbe", description="functional, as ASE's Vasp calculator names it")
    encut: float = Field(500.0, gt=0, description="cutoff, eV")
    ismear: int = Field(0, description="kind of smearing")
    sigma: float = Field(0.05, gt=0, description="width of the smearing, eV")
    ediff: float = Field(1e-6, gt=0, description="threshold of self-consistency, eV")
    max_iterations: int = Field(100, ge=2, description="most iterations of the self-consistent field (NELM)")
    magnetic_moments: dict[str, float] = Field(
        default_factory=dict, description="initial ones by element, µB; any makes it spin-polarised"
    )
    incar: dict[str, Any] = Field(default_factory=dict, description="any other key of INCAR that ASE knows")
    custom: dict[str, str] = Field(default_factory=dict, description="keys of INCAR that ASE does not know")


ReferenceSettings = Annotated[
    XTBSettings | EMTSettings | ASESettings | GPAWSettings | EspressoSettings | VASPSettings,
    Field(discriminator="engine"),
]

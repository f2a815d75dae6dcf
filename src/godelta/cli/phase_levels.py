"""Energies that `godelta phase-diagram` compares with, evaluated at the campaigns' own reference."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from godelta.analysis.gas import Diatomic
from godelta.analysis.phases import Levels
from godelta.campaign import CampaignConfig
from godelta.cli.phase_found import Found
from godelta.errors import InputError
from godelta.reference.kept import kept_energies, kept_folder, relaxed_energy
from godelta.reference.registry import reference_hash
from godelta.reference.settings import EspressoSettings, GPAWSettings, ReferenceSettings, VASPSettings
from godelta.store.workspace import Workspace
from godelta.systems.lattice import equilibrium, is_fcc
from godelta.systems.problem import SearchProblem

if TYPE_CHECKING:
    from godelta.cli.phase_diagram import PhaseOptions

BOX = 12.0  # Å, around a molecule


def level_of(first: Found, workspace: Workspace) -> tuple[ReferenceSettings, Path]:
    """The reference of campaigns, and where its results outside of campaigns are kept.

    Raises
    ------
    InputError
        Another version of its engine is installed than that of the campaigns.
    """
    reference = CampaignConfig.model_validate(first.campaign.config).reference
    if reference_hash(reference) != first.campaign.reference_hash:
        raise InputError(
            "its evaluations are of another version of the engine than is installed here",
            where=first.campaign.name,
            mend="install that version again: energies of different levels never mix",
        )
    return reference, kept_folder(workspace.scratch, first.campaign.reference_hash)


def levels_of(found: list[Found], gas: Diatomic, workspace: Workspace, options: "PhaseOptions") -> Levels:
    """Energies of the clean slab, the solids and the gas; those that are not given are evaluated.

    Raises
    ------
    InputError
        One of them has to be given.
    GodeltaError
        An evaluation failed.
    """
    first = found[0]
    reference, kept = level_of(first, workspace)
    given = dict(solid_energy(text) for text in options.solids)
    needed = {symbol for one in found for symbol in one.placed} - {gas.symbol}
    clean = relaxed_energy(_clean(first.problem), reference, kept)
    solids = {
        symbol: given[symbol] if symbol in given else _metal(symbol, reference, kept)
        for symbol in sorted(needed)
    }
    molecule = half_a_molecule(gas, reference, kept) if options.gas_energy is None else options.gas_energy
    return Levels(clean, solids, gas.symbol, molecule)


def _clean(problem: SearchProblem) -> Atoms:
    from ase.constraints import FixAtoms

    slab: Atoms = problem.template.copy()
    slab.set_constraint(FixAtoms(np.flatnonzero(problem.fixed)))
    return slab


def solid_energy(text: str) -> tuple[str, float]:
    """Symbol and energy in eV of SYMBOL=ENERGY.

    Raises
    ------
    InputError
        It is something else.
    """
    symbol, _, energy = text.partition("=")
    try:
        value = float(energy)
    except ValueError:
        value = float("nan")
    if symbol not in chemical_symbols or not np.isfinite(value):
        raise InputError(
            f"{text!r} is no energy of an element", where="--solid", mend="e.g. --solid Cu=-3.72"
        )
    return symbol, value


def _metal(symbol: str, reference: ReferenceSettings, kept: Path) -> float:
    """The energy in eV per atom of the fcc crystal at the reference's own lattice constant."""
    if not is_fcc(symbol):
        raise InputError(
            f"{symbol} has no fcc crystal to compare with",
            where="--solid",
            mend=f"give its energy per atom at the level of the reference: --solid {symbol}=ENERGY",
        )
    return equilibrium(symbol, kept_energies(reference, kept)).energy


def free_atom(symbol: str, reference: ReferenceSettings, kept: Path) -> float:
    """The energy in eV of an atom alone.

    Raises
    ------
    InputError
        The reference has no spin, which atoms have.
    GodeltaError
        The evaluation failed.
    """
    if _has_no_spin(reference, symbol):
        raise InputError(
            f"free atoms of {symbol} are magnetic or nearly so, and these calculations have no spin",
            where="--solid",
            mend=f"give the energy per atom that is to be zero, as of the crystal: --solid {symbol}=ENERGY",
        )
    return relaxed_energy(Atoms(symbol, cell=[BOX] * 3, pbc=False), reference, kept)


def _has_no_spin(reference: ReferenceSettings, symbol: str) -> bool:
    """Whether a DFT reference would compute a magnetic molecule without its spin."""
    match reference:
        case GPAWSettings():
            return True
        case EspressoSettings():
            return symbol not in reference.starting_magnetization
        case VASPSettings():
            return symbol not in reference.magnetic_moments
    return False


def half_a_molecule(gas: Diatomic, reference: ReferenceSettings, kept: Path) -> float:
    """Half the energy in eV of the relaxed molecule.

    Raises
    ------
    InputError
        The molecule is a triplet, and the reference has no spin.
    GodeltaError
        An evaluation failed.
    """
    if gas.spin and _has_no_spin(reference, gas.symbol):
        raise InputError(
            f"{gas.symbol}2 is a triplet, and these calculations with {reference.engine} have no spin",
            where="--gas-energy",
            mend=f"compute {gas.symbol}2 with spin at the same level, and give half its energy",
        )
    return 0.5 * relaxed_energy(gas.atoms(BOX), reference, kept)

"""Evaluations outside of a campaign: crystals, molecules, clean slabs; each result is kept in a folder."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS

from godelta.arrays import FloatArray
from godelta.errors import GodeltaError
from godelta.reference.isolated import evaluate_isolated
from godelta.reference.settings import ReferenceSettings

FMAX = 0.02  # eV/Å
STEPS = 200


class KeptCalculator(Calculator):
    """The reference as an ASE calculator: one process for each structure, none for one that was done before.

    Parameters
    ----------
    settings
        The reference level.
    folder
        Where evaluations are kept; one folder for each reference level.

    Raises
    ------
    GodeltaError
        From a calculation: it failed.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as ASE declares it

    def __init__(self, settings: ReferenceSettings, folder: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._settings, self._folder = settings, folder

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """Energy [eV] and forces [eV/Å]."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        scratch = self._folder / _name(atoms)
        outcome = evaluate_isolated(atoms, self._settings, scratch)
        if outcome.energy is None:
            raise GodeltaError(
                f"the evaluation of {atoms.get_chemical_formula()} failed: {outcome.message}",
                where=str(scratch),
                mend="look into the log there; `reference.limits` and the engine's settings may help",
            )
        self.results = {"energy": outcome.energy, "forces": outcome.forces}


def relaxed_energy(atoms: Atoms, settings: ReferenceSettings, folder: Path) -> float:
    """The energy in eV of a structure relaxed at the reference level; its constraints hold.

    Raises
    ------
    GodeltaError
        An evaluation failed, or forces are not below 0.02 eV/Å after 200 steps.
    """
    relaxed = atoms.copy()
    relaxed.calc = KeptCalculator(settings, folder)
    fixed = {int(i) for constraint in relaxed.constraints for i in constraint.get_indices()}
    if len(fixed) < len(relaxed) and not BFGS(relaxed, logfile=None).run(fmax=FMAX, steps=STEPS):
        raise GodeltaError(
            f"{relaxed.get_chemical_formula()} has forces above {FMAX:g} eV/Å after {STEPS} steps",
            where=str(folder),
            mend="see whether the reference's forces belong to its energies",
        )
    return float(relaxed.get_potential_energy())


def kept_folder(scratch: Path, reference_hash: str) -> Path:
    """Where results of a reference level are kept, below a folder for scratch files."""
    return scratch / "kept" / reference_hash[:16]


def kept_energies(
    settings: ReferenceSettings, folder: Path, report: Callable[[int, int], None] | None = None
) -> Callable[[Sequence[Atoms]], FloatArray]:
    """A function that gives the energies (n,) in eV of structures; `report` hears how many of them it has."""

    def energies(structures: Sequence[Atoms]) -> FloatArray:
        values = np.empty(len(structures))
        for k, atoms in enumerate(structures):
            one = atoms.copy()
            one.calc = KeptCalculator(settings, folder)
            values[k] = one.get_potential_energy()
            if report is not None:
                report(k + 1, len(structures))
        return values

    return energies


def _name(atoms: Atoms) -> str:
    """What tells a structure from all others."""
    content = hashlib.sha256()
    for part in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
        content.update(np.ascontiguousarray(part).tobytes())
    return f"{atoms.get_chemical_formula()}-{content.hexdigest()[:20]}"

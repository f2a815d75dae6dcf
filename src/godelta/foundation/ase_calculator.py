"""Any ASE calculator as foundation potential."""

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from ase import Atoms

from godelta.arrays import FloatArray
from godelta.errors import GodeltaError
from godelta.foundation.ase_import import import_calculator
from godelta.foundation.base import FoundationBatch, FoundationIdentity
from godelta.foundation.settings import ASEFoundationSettings


class ASEFoundation:
    """Energies and forces of an ASE calculator, one structure after the other.

    The calculator sees the structures with their own periodicity and without constraints.

    Raises
    ------
    InputError
        The import path names no calculator, or the arguments do not fit it.
    """

    def __init__(self, settings: ASEFoundationSettings) -> None:
        self.settings = settings
        self._calculator = import_calculator(settings.calculator, settings.arguments)

    @cached_property
    def identity(self) -> FoundationIdentity:
        """Import path and arguments name the potential, the package's version dates it."""
        package = self.settings.calculator.split(".")[0]
        try:
            package_version = version(package)
        except PackageNotFoundError:  # a module of the user's own, not an installed distribution
            package_version = "unversioned"
        return FoundationIdentity(
            name=f"ase:{self.settings.calculator}:{self.settings.digest()[:12]}",
            version=package_version,
            weights_sha256=None,
            dtype="float64",
            device="cpu",
            energy_scale=self.settings.calculator,
        )

    def evaluate(self, structures: Sequence[Atoms]) -> FoundationBatch:
        """Energies (B,) in eV and forces, B arrays (n_i, 3) in eV/Å.

        Raises
        ------
        GodeltaError
            The calculator raised an error, or gave something else than a number and (n, 3) forces.
        """
        results = [self._evaluate(atoms) for atoms in structures]
        return FoundationBatch(np.array([energy for energy, _ in results]), [f for _, f in results])

    def _evaluate(self, atoms: Atoms) -> tuple[float, FloatArray]:
        bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        bare.calc = self._calculator
        mend = "mend the calculator, or take another foundation"
        try:
            forces = np.array(bare.get_forces(), dtype=np.float64)
            energy = float(bare.get_potential_energy())
        except Exception as error:  # a calculator may raise anything
            raise GodeltaError(
                f"the calculator of the foundation failed: {type(error).__name__}: {error}",
                where=self.settings.calculator,
                mend=mend,
            ) from error
        if forces.shape != (len(atoms), 3):
            raise GodeltaError(
                f"the calculator of the foundation gave forces of the shape {forces.shape} for"
                f" {len(atoms)} atoms, not ({len(atoms)}, 3)",
                where=self.settings.calculator,
                mend=mend,
            )
        return energy, forces

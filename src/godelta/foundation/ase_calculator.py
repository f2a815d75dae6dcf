"""Any ASE calculator as foundation potential."""

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from ase import Atoms

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
        """Energies (B,) in eV and forces, B arrays (n_i, 3) in eV/Å."""
        energies = np.empty(len(structures))
        forces = []
        for k, atoms in enumerate(structures):
            bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            bare.calc = self._calculator
            forces.append(np.array(bare.get_forces(), dtype=np.float64))
            energies[k] = bare.get_potential_energy()
        return FoundationBatch(energies, forces)

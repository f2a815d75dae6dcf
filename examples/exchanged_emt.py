"""A foundation that is wrong on purpose: EMT with the roles of two elements exchanged."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT


class ExchangedEMT(Calculator):
    """EMT in which one element plays the other's part.

    Parameters
    ----------
    elements
        The two symbols to exchange.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - ASE declares it so

    def __init__(self, elements: tuple[str, str] = ("Cu", "Ag"), **kwargs: Any) -> None:
        super().__init__(**kwargs)  # type: ignore[no-untyped-call]
        self.elements = tuple(elements)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Energy [eV] and forces (n, 3) [eV/Å] of the structure with its elements exchanged."""
        super().calculate(atoms, properties or ["energy"], system_changes)  # type: ignore[no-untyped-call]
        assert self.atoms is not None
        first, second = self.elements
        symbols = np.array(self.atoms.get_chemical_symbols())
        exchanged = np.where(symbols == first, second, np.where(symbols == second, first, symbols))
        twin = Atoms(
            symbols=list(exchanged), positions=self.atoms.positions, cell=self.atoms.cell, pbc=self.atoms.pbc
        )
        twin.calc = EMT()
        self.results = {"energy": twin.get_potential_energy(), "forces": twin.get_forces()}

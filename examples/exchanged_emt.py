"""A foundation that is wrong on purpose: EMT with the roles of two elements exchanged."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT

from godelta.arrays import FloatArray, IntArray


class _EveryPair:
    """In place of EMT's neighbour list, which costs most of its time: all others; EMT cuts off by itself."""

    def __init__(self, count: int) -> None:
        self.others = [np.delete(np.arange(count), atom) for atom in range(count)]
        self.offsets = np.zeros((count - 1, 3))

    def update(self, atoms: Atoms) -> bool:  # noqa: ARG002 - called by EMT
        return False

    def get_neighbors(self, atom: int) -> tuple[IntArray, FloatArray]:
        return self.others[atom], self.offsets


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
        self._emt = EMT()
        self._ready_for: tuple[Any, ...] | None = None

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
        composition = (*exchanged, bool(twin.pbc.any()))
        if composition != self._ready_for:
            self._emt.initialize(twin)
            if not twin.pbc.any():  # before the first structure: its sums have to run in the same order
                self._emt.nl = _EveryPair(len(twin))  # type: ignore[assignment]
            self._ready_for = composition
        self._emt.calculate(twin, ["energy", "forces"], ["positions"])
        self.results = {
            "energy": float(self._emt.results["energy"]),
            "forces": self._emt.results["forces"].copy(),
        }

"""The search problem: what is given, what is to be placed, and where."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.systems.confinement import Confinement

if TYPE_CHECKING:
    from godelta.systems.symmetry import Operations


@dataclass(frozen=True)
class SearchProblem:
    """A template and the atoms that a search has to place in a confinement.

    Structures of the problem hold the template's atoms first, then the placed ones in the order
    of `numbers`. Units: Å.

    Parameters
    ----------
    template
        Atoms that are given (possibly none), with the cell and the periodicity of every structure.
    fixed
        (n_template,) flags of the template's atoms that never move.
    numbers
        (n,) atomic numbers of the atoms to place.
    confinement
        Where placed atoms may be.
    """

    template: Atoms
    fixed: BoolArray
    numbers: IntArray
    confinement: Confinement

    @property
    def n_template(self) -> int:
        """Number of atoms of the template; placed atoms follow them."""
        return len(self.template)

    @cached_property
    def moving(self) -> BoolArray:
        """(n_template + n,) flags: atoms that a relaxation may move."""
        return np.concatenate([~self.fixed, np.ones(len(self.numbers), dtype=np.bool_)])

    @cached_property
    def placed(self) -> BoolArray:
        """(n_template + n,) flags: atoms that the search places."""
        return np.arange(self.n_template + len(self.numbers)) >= self.n_template

    @cached_property
    def template_operations(self) -> "Operations | None":
        """Symmetry that the template leaves to the placed atoms; None where there is none to speak of."""
        from godelta.systems.symmetry import template_operations  # loads SciPy and spglib

        return template_operations(self.template, self.fixed)

    def structure(self, placed_positions: FloatArray) -> Atoms:
        """The template plus the placed atoms at (n, 3) positions, with FixAtoms on fixed atoms."""
        atoms = Atoms(
            numbers=np.concatenate([self.template.numbers, self.numbers]),
            positions=np.concatenate([self.template.positions, placed_positions]),
            cell=self.template.cell,
            pbc=self.template.pbc,
        )
        if self.fixed.any():
            atoms.set_constraint(FixAtoms(indices=np.flatnonzero(self.fixed)))
        return atoms

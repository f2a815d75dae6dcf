"""Slabs of fcc metals, with cells by repetition or by a matrix."""

from typing import Any

import numpy as np
from ase import Atoms
from ase.build import fcc100, fcc111, make_supercell
from ase.cell import Cell

from godelta.errors import InputError
from godelta.systems.settings import Supercell, SurfaceSettings

_BUILDERS: dict[str, Any] = {"fcc111": fcc111, "fcc100": fcc100}
_TO_60 = np.array([[1, 0], [-1, 1]])  # a, b of the basis with 120° in ASE's with 60°


def fcc_slab(settings: SurfaceSettings, lattice_constant: float) -> Atoms:
    """The slab without vacuum; tags number its layers from 1, the top one.

    Its first vector is along x. `lattice_constant` is in Å.

    Raises
    ------
    InputError
        ASE cannot build it.
    """
    build, element = _BUILDERS[settings.builder], settings.element
    if settings.supercell is not None:
        unit = build(element, size=(1, 1, settings.supercell.layers), a=lattice_constant, periodic=True)
        return commensurate(unit, settings.supercell)
    try:
        slab: Atoms = build(element, size=settings.size, a=lattice_constant, periodic=True)
    except ValueError as error:
        raise InputError(
            f"ASE cannot build this slab: {error}",
            where="system.size",
            mend="take other repetitions: even numbers fit every builder",
        ) from error
    return slab


def commensurate(unit: Atoms, cell: Supercell) -> Atoms:
    """A slab whose vectors in the plane are the rows of a matrix, from one with the cell of the surface.

    `unit` has ASE's basis, with 60° on fcc(111). The new slab is turned about z: its first vector is along x.
    """
    matrix = np.eye(3, dtype=int)
    rows = np.array(cell.matrix)
    matrix[:2, :2] = rows @ _TO_60 if cell.angle == 120 else rows
    slab: Atoms = make_supercell(unit, matrix)
    slab.set_cell(Cell.fromcellpar(slab.cell.cellpar()), scale_atoms=True)
    slab.wrap(pbc=(True, True, False))
    return slab

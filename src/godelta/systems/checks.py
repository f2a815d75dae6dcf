"""Checks of a search problem before anything is computed."""

import itertools

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from godelta.errors import InputError
from godelta.systems.formula import LAST_ELEMENT
from godelta.systems.geometry import MinimumImage, radii_of
from godelta.systems.problem import SearchProblem
from godelta.systems.settings import MAX_TEMPLATE, MIN_VACUUM

CONTACT = 0.75  # shortest allowed distance in units of the sum of covalent radii
OVERLAP = 0.5  # the same, below which atoms of a template are a mistake in its file
MIN_WIDTH = 0.1  # Å; cells and confinements that are narrower have no inside
# Random sequential packing jams at 0.38 (spheres) and 0.55 (discs); a search needs some air below it.
MAX_FILLING = {3: 0.35, 2: 0.50}
_KNOWN = np.arange(1, LAST_ELEMENT + 1)


def check_template(atoms: Atoms, name: str) -> None:
    """Refuse a template that no reference could compute.

    Raises
    ------
    InputError
        It has no atoms, atoms of no element, numbers that are not finite, no cell, or atoms on top of
        each other.
    """
    where = "system.file"
    if len(atoms) == 0:
        raise InputError(f"{name} holds no atoms", where=where, mend="give a file with the fixed part")
    if len(atoms) > MAX_TEMPLATE:
        raise InputError(
            f"{name} holds {len(atoms)} atoms", where=where, mend=f"cut it down to at most {MAX_TEMPLATE}"
        )
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise InputError(
            f"{name} holds positions or a cell that are not finite",
            where=where,
            mend="write the file again: every coordinate has to be a number",
        )
    unknown = sorted({str(atoms.symbols[i]) for i in np.flatnonzero(~np.isin(atoms.numbers, _KNOWN))})
    if unknown:
        raise InputError(
            f"{name} holds atoms of no known element: {', '.join(unknown)}",
            where=where,
            mend=f"elements go from H to {chemical_symbols[LAST_ELEMENT]}; take dummy atoms out",
        )
    if np.linalg.svd(atoms.cell.array, compute_uv=False).min() < MIN_WIDTH:
        raise InputError(
            f"{name} has no three-dimensional cell",
            where=where,
            mend="store it with a cell, e.g. as extxyz with a Lattice",
        )
    _check_distances(atoms, name)


def _check_distances(atoms: Atoms, name: str) -> None:
    radii = radii_of(atoms.numbers)
    distances = MinimumImage.of(atoms.cell.array, atoms.pbc).distances(atoms.positions, atoms.positions)
    ratio = distances / (radii[:, None] + radii)
    np.fill_diagonal(ratio, np.inf)
    i, j = np.unravel_index(int(ratio.argmin()), ratio.shape)
    if ratio[i, j] < OVERLAP:
        raise InputError(
            f"{name} has atoms on top of each other: {atoms.symbols[i]}{i} and {atoms.symbols[j]}{j} are"
            f" {distances[i, j]:.2f} Å apart",
            where="system.file",
            mend="take one of them out; indices go from 0",
        )


def check_vacuum(problem: SearchProblem) -> None:
    """Refuse a box whose images come closer than 6 Å in a non-periodic direction.

    Raises
    ------
    InputError
        With the direction and the edge that would do.
    """
    region = problem.confinement
    ends = np.array(list(itertools.product((0.0, 1.0), repeat=region.dimensions)))
    points = np.concatenate([problem.template.positions, region.corner + ends @ region.cell])
    cell = np.array(problem.template.cell)
    inverse = np.linalg.inv(cell)
    for k in range(3):
        height = 1.0 / np.linalg.norm(inverse[:, k])
        gap = height * (1.0 - np.ptp(points @ inverse[:, k]))
        if not problem.template.pbc[k] and gap < MIN_VACUUM - 1e-6:
            raise InputError(
                f"only {gap:.2f} Å lie between the confinement (with the template) and its image along cell"
                f" vector {k}; foundations treat every structure as periodic and need {MIN_VACUUM:g} Å",
                where="system",
                mend=f"lengthen this cell vector by {MIN_VACUUM - gap:.2f} Å, or shrink the confinement",
            )


def check_packing(problem: SearchProblem, formula: str) -> None:
    """Refuse a confinement that cannot hold the atoms at 0.75 times their covalent distances.

    The estimate counts spheres (discs, when flat) of 0.75 covalent radii, of placed atoms and of
    template atoms inside; centres may touch a wall, so the room reaches one such radius beyond it.

    Raises
    ------
    InputError
        With the filling found and the size that would do.
    """
    region = problem.confinement
    d = region.dimensions
    inside = np.zeros(0, dtype=np.int64)
    if problem.n_template and d == 3:
        f = region.fractional(problem.template.positions)
        inside = problem.template.numbers[((f > 0) & (f < 1)).all(axis=1)]
    radii = CONTACT * radii_of(np.concatenate([problem.numbers, inside]))
    content = float(((4 / 3 if d == 3 else 1.0) * np.pi * radii**d).sum())
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(region.cell), axis=0)
    measure = float(np.sqrt(np.linalg.det(region.cell @ region.cell.T)))
    room = measure * float(
        np.prod(
            [1.0 + 2 * radii.mean() / h if w else 1.0 for h, w in zip(heights, region.walls, strict=True)]
        )
    )
    if content > MAX_FILLING[d] * room:
        factor = (content / (MAX_FILLING[d] * room)) ** (1 / d)
        raise InputError(
            f"the confinement is too small for {formula}: covalent spheres would fill"
            f" {content / room:.0%} of it, and at most {MAX_FILLING[d]:.0%} can be packed at random",
            where="system.confinement",
            mend=f"make its edges about {max(1.05, factor):.2f} times as long, or use fewer atoms",
        )

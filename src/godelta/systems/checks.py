"""Checks of a search problem before anything is computed."""

import itertools

import numpy as np

from godelta.errors import InputError
from godelta.systems.geometry import radii_of
from godelta.systems.problem import SearchProblem
from godelta.systems.settings import MIN_VACUUM

CONTACT = 0.75  # shortest allowed distance in units of the sum of covalent radii
# Random sequential packing jams at 0.38 (spheres) and 0.55 (discs); a search needs some air below it.
MAX_FILLING = {3: 0.35, 2: 0.50}


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

"""Checks of a structure before its evaluation and of the numbers after it."""

from typing import Literal, NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.geometry import get_distances

from godelta.arrays import FloatArray
from godelta.reference.settings import Limits
from godelta.systems import SearchProblem

WALL_TOLERANCE = 0.5  # Å; soft walls let atoms through a little, an escape goes further

Reason = Literal[
    "invalid_structure",
    "too_close",
    "outside_confinement",
    "not_converged",
    "wall_limit",
    "memory_limit",
    "crashed",
    "killed",
    "invalid_result",
    "force_limit",
    "net_force",
    "engine_error",
    "interrupted",
]


class Finding(NamedTuple):
    """What is wrong: a reason code and a sentence."""

    reason: Reason
    message: str


def check_before(atoms: Atoms, limits: Limits, problem: SearchProblem | None = None) -> Finding | None:
    """What makes a structure not worth an evaluation, or None.

    Parameters
    ----------
    atoms
        The structure.
    limits
        Gives the closest distance, as a part of the sum of covalent radii.
    problem
        Where given, placed atoms that are further than 0.5 Å outside its walls are found too.
    """
    if len(atoms) == 0:
        return Finding("invalid_structure", "no atoms")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return Finding("invalid_structure", "positions or cell are not finite")
    return _too_close(atoms, limits.min_distance_factor) or _outside(atoms, problem)


def _too_close(atoms: Atoms, factor: float) -> Finding | None:
    if len(atoms) == 1 or factor == 0:
        return None
    _, distances = get_distances(atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    radii = covalent_radii[atoms.numbers]
    ratio = distances / (radii[:, None] + radii[None, :])
    np.fill_diagonal(ratio, np.inf)
    i, j = np.unravel_index(int(ratio.argmin()), ratio.shape)
    if ratio[i, j] >= factor:
        return None
    names = f"{atoms.symbols[i]}{i} and {atoms.symbols[j]}{j}"
    return Finding(
        "too_close",
        f"{names} are {distances[i, j]:.2f} Å apart, {ratio[i, j]:.2f} of the sum of their covalent radii "
        f"(limit {factor:g})",
    )


def _outside(atoms: Atoms, problem: SearchProblem | None) -> Finding | None:
    if problem is None:
        return None
    confinement = problem.confinement
    fractional = confinement.fractional(atoms.positions[problem.placed])
    # The rows of the pseudo-inverse's transpose are the walls' normals, over the heights.
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(confinement.cell), axis=0)
    beyond = np.maximum(-fractional, fractional - 1.0) * heights
    beyond = beyond[:, list(confinement.walls)]
    if beyond.size == 0 or beyond.max() <= WALL_TOLERANCE:
        return None
    return Finding("outside_confinement", f"an atom is {beyond.max():.2f} Å outside the confinement")


def check_after(energy: float, forces: FloatArray, atoms: Atoms, limits: Limits) -> Finding | None:
    """What makes a result untrustworthy, or None; energy in eV, forces in eV/Å."""
    if forces.shape != (len(atoms), 3):
        return Finding("invalid_result", f"forces have the shape {forces.shape}, not ({len(atoms)}, 3)")
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        return Finding("invalid_result", "energy or forces are not finite")
    largest = float(np.linalg.norm(forces, axis=1).max())
    if largest > limits.max_force:
        return Finding("force_limit", f"a force of {largest:.1f} eV/Å (limit {limits.max_force:g})")
    net = float(np.linalg.norm(forces.sum(axis=0))) / len(atoms)
    # Fixed atoms may stand in for a world outside, which pulls at the others.
    if net > limits.max_net_force and not atoms.constraints:
        return Finding(
            "net_force", f"the forces sum to {net:.2f} eV/Å per atom (limit {limits.max_net_force:g})"
        )
    return None

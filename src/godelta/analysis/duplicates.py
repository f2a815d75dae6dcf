"""Structures that are the same up to symmetry and exchange of like atoms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.systems.geometry import MinimumImage

ENERGY_TOLERANCE = 0.02  # eV
DISTANCE_TOLERANCE = 0.15  # Å; relaxations to 0.05 eV/Å end within it, different isomers beyond it


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """How the atoms that may move see all others.

    `key` holds what must agree exactly: the number of atoms of each class, a class being a species
    that moves or a species that is fixed. `environments` (m, n) are each moving atom's distances in
    Å, sorted within each class; `classes` (m,) are the moving atoms' own.
    """

    key: tuple[tuple[int, int], ...]
    environments: FloatArray
    classes: IntArray


def group(
    structures: Sequence[Atoms],
    energies: FloatArray,
    *,
    energy_tolerance: float = ENERGY_TOLERANCE,
    distance_tolerance: float = DISTANCE_TOLERANCE,
) -> IntArray:
    """Labels (n,) from 0, in order of appearance; equivalent structures share one.

    Two structures are equivalent if their energies agree and their moving atoms can be paired, like
    with like, so that the partners see the same distances to the atoms of each species, fixed and
    moving ones apart, with minimum images. Rotations, mirror images, translations, operations of a
    slab's symmetry and permutations change nothing. Distances do not tell enantiomers apart, whose
    energies are equal anyway. Each structure is compared with the first one of every group.

    Parameters
    ----------
    structures
        n structures; FixAtoms marks atoms that are fixed.
    energies
        (n,) energies in eV, all of the same level.
    energy_tolerance
        Largest difference of energies, eV.
    distance_tolerance
        Largest difference of any two sorted distances of partners, Å.
    """
    labels = np.empty(len(structures), dtype=np.int64)
    leaders: dict[tuple[tuple[int, int], ...], list[tuple[int, float, _Fingerprint]]] = {}
    count = 0
    for i, atoms in enumerate(structures):
        print_ = _fingerprint(atoms)
        known = leaders.setdefault(print_.key, [])
        for label, energy, leader in known:
            close = abs(energy - energies[i]) < energy_tolerance
            if close and _equivalent(leader, print_, distance_tolerance):
                labels[i] = label
                break
        else:
            labels[i] = count
            known.append((count, float(energies[i]), print_))
            count += 1
    return labels


def distinct(
    structures: Sequence[Atoms],
    count: int,
    *,
    known: Sequence[Atoms] = (),
    distance_tolerance: float = DISTANCE_TOLERANCE,
) -> list[int]:
    """Indices of the first structures, at most `count`, that are equivalent to no known and no earlier one.

    Unlike in `group`, energies do not matter, and each pair is compared: equivalence within a tolerance
    does not carry over from one pair to the next.

    Parameters
    ----------
    structures
        In the order in which they are wanted.
    known
        Structures not to be taken again.
    distance_tolerance
        As for `group`, Å.
    """
    taken: dict[tuple[tuple[int, int], ...], list[_Fingerprint]] = {}
    for atoms in known if count > 0 else ():
        print_ = _fingerprint(atoms)
        taken.setdefault(print_.key, []).append(print_)
    chosen: list[int] = []
    for i, atoms in enumerate(structures):
        if len(chosen) >= count:
            break
        print_ = _fingerprint(atoms)
        others = taken.setdefault(print_.key, [])
        if not any(_equivalent(other, print_, distance_tolerance) for other in others):
            others.append(print_)
            chosen.append(i)
    return chosen


def _fixed(atoms: Atoms) -> BoolArray:
    flags = np.zeros(len(atoms), dtype=np.bool_)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            flags[constraint.index] = True
    return flags


def _fingerprint(atoms: Atoms) -> _Fingerprint:
    fixed = _fixed(atoms)
    class_of = np.where(fixed, -1, 1) * atoms.numbers
    moving = np.flatnonzero(~fixed)
    image = MinimumImage.of(atoms.cell.array, atoms.pbc)
    distances = image.distances(atoms.positions[moving], atoms.positions)
    classes, counts = np.unique(class_of, return_counts=True)
    environments = [np.sort(distances[:, class_of == c], axis=1) for c in classes]
    return _Fingerprint(
        key=tuple((int(c), int(n)) for c, n in zip(classes, counts, strict=True)),
        environments=np.concatenate(environments, axis=1) if environments else distances,
        classes=np.asarray(class_of[moving], dtype=np.int64),
    )


def _equivalent(a: _Fingerprint, b: _Fingerprint, tolerance: float) -> bool:
    """Whether the moving atoms can be paired within the tolerance."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    worst = np.abs(a.environments[:, None] - b.environments[None]).max(axis=2, initial=0.0)
    possible = (worst < tolerance) & (a.classes[:, None] == b.classes[None])
    if not (possible.any(axis=0).all() and possible.any(axis=1).all()):
        return False
    return bool((maximum_bipartite_matching(csr_array(possible)) >= 0).all())

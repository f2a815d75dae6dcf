"""Structures that are the same up to symmetry and exchange of like atoms."""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    Å, sorted within each class; `classes` (m,) are the moving atoms' own. `profile` (m n,) are the
    environments with each column sorted within the moving classes: atoms that can be paired within a
    tolerance have profiles that agree within it.
    """

    key: tuple[tuple[int, int], ...]
    environments: FloatArray
    classes: IntArray
    profile: FloatArray


@dataclass(slots=True)
class _Known:
    """Structures of the same key, and the search for those that one is equivalent to.

    Profiles lie in one array: most pairs are told apart by them, all at once.
    """

    prints: list[_Fingerprint] = field(default_factory=list)
    _profiles: FloatArray = field(default_factory=lambda: np.empty((0, 0)))

    def add(self, print_: _Fingerprint) -> None:
        """One more."""
        count = len(self.prints)
        if count == len(self._profiles):
            grown = np.empty((2 * count + 8, print_.profile.size))
            if count:
                grown[:count] = self._profiles
            self._profiles = grown
        self._profiles[count] = print_.profile
        self.prints.append(print_)

    def first(self, print_: _Fingerprint, tolerance: float, among: BoolArray | None = None) -> int | None:
        """The first equivalent one, of those flagged in `among`; None where there is none."""
        if not self.prints:
            return None
        profiles = self._profiles[: len(self.prints)]
        possible = np.abs(profiles - print_.profile).max(axis=1, initial=0.0) < tolerance
        if among is not None:
            possible &= among
        for i in np.flatnonzero(possible).tolist():
            if _equivalent(self.prints[i], print_, tolerance):
                return int(i)
        return None


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
    leaders: dict[tuple[tuple[int, int], ...], tuple[_Known, list[int]]] = {}
    firsts: list[int] = []  # index of each group's first structure
    for i, atoms in enumerate(structures):
        print_ = _fingerprint(atoms)
        known, own = leaders.setdefault(print_.key, (_Known(), []))
        close = np.abs(energies[[firsts[label] for label in own]] - energies[i]) < energy_tolerance
        found = known.first(print_, distance_tolerance, close)
        if found is None:
            known.add(print_)
            own.append(len(firsts))
            firsts.append(i)
            labels[i] = own[-1]
        else:
            labels[i] = own[found]
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
    taken: dict[tuple[tuple[int, int], ...], _Known] = {}
    for atoms in known if count > 0 else ():
        print_ = _fingerprint(atoms)
        taken.setdefault(print_.key, _Known()).add(print_)
    chosen: list[int] = []
    for i, atoms in enumerate(structures):
        if len(chosen) >= count:
            break
        print_ = _fingerprint(atoms)
        others = taken.setdefault(print_.key, _Known())
        if others.first(print_, distance_tolerance) is None:
            others.add(print_)
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
    blocks = [np.sort(distances[:, class_of == c], axis=1) for c in classes]
    environments = np.concatenate(blocks, axis=1) if blocks else distances
    own = np.asarray(class_of[moving], dtype=np.int64)
    columns = [np.sort(environments[own == c], axis=0).ravel() for c in classes]
    return _Fingerprint(
        key=tuple((int(c), int(n)) for c, n in zip(classes, counts, strict=True)),
        environments=environments,
        classes=own,
        profile=np.concatenate(columns) if columns else np.empty(0),
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

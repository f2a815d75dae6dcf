"""Structures that are the same up to symmetry and exchange of like atoms."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.systems.geometry import MinimumImage

ENERGY_TOLERANCE = 0.02  # eV
DISTANCE_TOLERANCE = 0.15  # Å; relaxations to 0.05 eV/Å end within it, different isomers beyond it
SCREEN = 12  # distances of a profile that are compared with those of all others at once
IMPOSSIBLE = 1e6  # Å
MOST_PAIRINGS = 2000  # of atoms, tried one after the other to superpose two structures


@dataclass(frozen=True, slots=True)
class _Fingerprint:
    """How the atoms that may move see all others.

    `key` holds what must agree exactly: the number of atoms of each class, a class being a species
    that moves or a species that is fixed. `environments` (m, n) are each moving atom's distances in
    Å, sorted within each class; `classes` (m,) are the moving atoms' own. `profile` (m n,) are the
    environments with each column sorted within the moving classes: atoms that can be paired within a
    tolerance have profiles that agree within it. `inner` (m, m) are the distances among the moving
    atoms in their order, `outer` (m, f) those to the fixed ones, whose classes are `fixed` (f,).
    """

    key: tuple[tuple[int, int], ...]
    environments: FloatArray
    classes: IntArray
    profile: FloatArray
    inner: FloatArray
    outer: FloatArray
    fixed: IntArray


@dataclass(slots=True)
class _Known:
    """Structures of the same key, and the search for those that one is equivalent to.

    A few distances of all profiles lie side by side: they tell most pairs apart, all at once.
    """

    prints: list[_Fingerprint] = field(default_factory=list)
    _picked: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    _screen: FloatArray = field(default_factory=lambda: np.empty((0, 0)))  # (picked, structures)
    _energies: FloatArray = field(default_factory=lambda: np.empty(0))

    def add(self, print_: _Fingerprint, energy: float = 0.0) -> None:
        """One more, with its energy in eV."""
        count = len(self.prints)
        if count == 0:
            size = print_.profile.size
            self._picked = np.unique(np.linspace(0, size - 1, min(SCREEN, size)).astype(np.int64))[::-1]
        if count == len(self._energies):
            screen, energies = np.empty((len(self._picked), 2 * count + 8)), np.empty(2 * count + 8)
            if count:
                screen[:, :count], energies[:count] = self._screen, self._energies
            self._screen, self._energies = screen, energies
        self._screen[:, count] = print_.profile[self._picked]
        self._energies[count] = energy
        self.prints.append(print_)

    def first(
        self, print_: _Fingerprint, tolerance: float, energy: float = 0.0, energy_tolerance: float = np.inf
    ) -> int | None:
        """The first equivalent one whose energy is close enough; None where there is none."""
        return next(self.every(print_, tolerance, energy, energy_tolerance), None)

    def every(
        self, print_: _Fingerprint, tolerance: float, energy: float = 0.0, energy_tolerance: float = np.inf
    ) -> Iterator[int]:
        """All equivalent ones whose energy is close enough, in the order in which they came."""
        count = len(self.prints)
        if not count:
            return
        rest = np.flatnonzero(np.abs(self._energies[:count] - energy) < energy_tolerance)
        for row, value in zip(self._screen, print_.profile[self._picked].tolist(), strict=True):
            rest = rest[np.abs(row[rest] - value) < tolerance]
            if not rest.size:
                return
        for i in rest.tolist():
            if _equivalent(self.prints[i], print_, tolerance):
                yield int(i)


def group(
    structures: Sequence[Atoms],
    energies: FloatArray,
    *,
    energy_tolerance: float = ENERGY_TOLERANCE,
    distance_tolerance: float = DISTANCE_TOLERANCE,
) -> IntArray:
    """Labels (n,) from 0, in order of appearance; equivalent structures share one.

    Two structures are equivalent if their energies agree and their moving atoms can be paired, like
    with like, so that

    - partners see the same distances, sorted, to the atoms of each species, fixed and moving ones apart,
      within the tolerance;
    - all distances between moving atoms, and to fixed atoms paired in their turn, are those between the
      partners, within twice the tolerance (shifts of both atoms add up).

    Distances are between minimum images. Rotations, mirror images, translations, operations of a slab's
    symmetry and permutations change nothing. The second condition tells apart structures that only have
    the same lists of distances (homometric ones). Not told apart are enantiomers, whose energies are
    equal anyway. In a cell so small that more than one image of an atom counts, structures whose nearest
    images are congruent are one. Each structure is compared with the first one of every group.

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

    Notes
    -----
    10,000 structures of some 10 to 60 atoms take seconds of one core (`benchmarks/duplicates.py`).
    """
    labels = np.empty(len(structures), dtype=np.int64)
    leaders: dict[tuple[tuple[int, int], ...], tuple[_Known, list[int]]] = {}
    count = 0
    for i, atoms in enumerate(structures):
        print_ = _fingerprint(atoms)
        known, own = leaders.setdefault(print_.key, (_Known(), []))
        found = known.first(print_, distance_tolerance, float(energies[i]), energy_tolerance)
        if found is None:
            known.add(print_, float(energies[i]))
            own.append(count)
            labels[i] = count
            count += 1
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


def equivalents(
    structures: Sequence[Atoms], known: Sequence[Atoms], *, distance_tolerance: float = DISTANCE_TOLERANCE
) -> list[list[int]]:
    """For each structure, the indices of all known ones that it is equivalent to, in rising order.

    As in `distinct`, energies do not matter, and each pair is compared.

    Parameters
    ----------
    structures, known
        Any number of each; FixAtoms marks atoms that are fixed.
    distance_tolerance
        As for `group`, Å.
    """
    by_key: dict[tuple[tuple[int, int], ...], tuple[_Known, list[int]]] = {}
    for i, atoms in enumerate(known if structures else ()):
        print_ = _fingerprint(atoms)
        alike, own = by_key.setdefault(print_.key, (_Known(), []))
        alike.add(print_)
        own.append(i)
    found = []
    for atoms in structures:
        print_ = _fingerprint(atoms)
        alike, own = by_key.get(print_.key, (_Known(), []))
        found.append([own[j] for j in alike.every(print_, distance_tolerance)])
    return found


def _fixed(atoms: Atoms) -> BoolArray:
    flags = np.zeros(len(atoms), dtype=np.bool_)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            flags[constraint.index] = True
    return flags


@lru_cache(maxsize=64)
def _image(cell: bytes, pbc: bytes) -> MinimumImage:
    return MinimumImage.of(np.frombuffer(cell).reshape(3, 3), np.frombuffer(pbc, dtype=np.bool_))


def _fingerprint(atoms: Atoms) -> _Fingerprint:
    fixed = _fixed(atoms)
    class_of = np.where(fixed, -1, 1) * atoms.numbers
    moving = np.flatnonzero(~fixed)
    image = _image(np.asarray(atoms.cell.array, dtype=float).tobytes(), atoms.pbc.tobytes())
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
        inner=distances[:, moving],
        outer=distances[:, fixed],
        fixed=np.asarray(class_of[fixed], dtype=np.int64),
    )


def _equivalent(a: _Fingerprint, b: _Fingerprint, tolerance: float) -> bool:
    """Whether the moving atoms can be paired within the tolerance."""
    if np.abs(a.profile - b.profile).max(initial=0.0) >= tolerance:
        return False
    worst = np.abs(a.environments[:, None] - b.environments[None]).max(axis=2, initial=0.0)
    possible = (worst < tolerance) & (a.classes[:, None] == b.classes[None])
    pairing = _paired(worst, possible)
    if pairing is None:
        return False
    return _superpose(a, b, pairing, 2 * tolerance) or _search(a, b, possible, 2 * tolerance)


def _paired(cost: FloatArray, possible: BoolArray) -> IntArray | None:
    """The cheapest pairing among possible partners, each row's column; None where there is none."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.where(possible, cost, IMPOSSIBLE))
    return np.asarray(columns) if possible[rows, columns].all() else None


def _superpose(a: _Fingerprint, b: _Fingerprint, pairing: IntArray, tolerance: float) -> bool:
    """Whether this pairing keeps all distances; the fixed atoms find partners by what the others see."""
    if np.abs(a.inner - b.inner[np.ix_(pairing, pairing)]).max(initial=0.0) >= tolerance:
        return False
    if not a.fixed.size or not pairing.size:
        return True
    worst = np.abs(a.outer[:, :, None] - b.outer[pairing][:, None, :]).max(axis=0)
    return _paired(worst, (worst < tolerance) & (a.fixed[:, None] == b.fixed[None])) is not None


def _search(a: _Fingerprint, b: _Fingerprint, possible: BoolArray, tolerance: float) -> bool:
    """Whether any pairing keeps all distances: pair atoms one by one, each leaves its distances to the rest.

    After `MOST_PAIRINGS` atoms the question is left open, and the answer is yes.
    """
    ahead = [possible]
    for _ in range(MOST_PAIRINGS):
        if not ahead:
            return False
        allowed = ahead.pop()
        choices = allowed.sum(axis=1)
        if not choices.all():
            continue
        if choices.max() == 1:
            pairing = allowed.argmax(axis=1)
            if len(set(pairing.tolist())) == len(pairing) and _superpose(a, b, pairing, tolerance):
                return True
            continue
        i = int(np.where(choices > 1, choices, len(choices) + 1).argmin())
        for j in reversed(np.flatnonzero(allowed[i]).tolist()):
            kept = allowed & (np.abs(a.inner[i][:, None] - b.inner[j][None]) < tolerance)
            kept[i], kept[:, j] = False, False
            kept[i, j] = True
            ahead.append(kept)
    return True

"""Potentials side by side against the reference: errors, ranks, low minima, forces by surroundings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import chemical_symbols
from scipy.stats import kendalltau, spearmanr

from godelta.analysis.bonds import Surroundings, centred
from godelta.analysis.duplicates import group
from godelta.arrays import BoolArray, FloatArray, IntArray

LEAST = 3  # structures of a composition, of fewer a rank correlation says nothing
COORDINATIONS = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 8), (9, 12), (13, 10_000))


@dataclass(frozen=True)
class Truth:
    """Evaluated structures.

    Parameters
    ----------
    ids, structures
        N of them; FixAtoms marks atoms that never move.
    energies
        (N,) at the reference, eV.
    forces
        N arrays (n, 3) at the reference, eV/Å.
    compositions
        (N,) labels from 0.
    leaders
        Indices of the distinct structures: of those that are equivalent the one of lowest energy.
    """

    ids: list[str]
    structures: list[Atoms]
    energies: FloatArray
    forces: list[FloatArray]
    compositions: IntArray
    leaders: IntArray

    @classmethod
    def of(
        cls, ids: list[str], structures: list[Atoms], energies: FloatArray, forces: list[FloatArray]
    ) -> "Truth":
        """Find compositions and duplicates."""
        formulas = [atoms.get_chemical_formula() for atoms in structures]
        labels = np.unique(formulas, return_inverse=True)[1].reshape(-1).astype(np.int64)
        order = np.argsort(energies, kind="stable")
        groups = group([structures[k] for k in order], energies[order])
        firsts = np.unique(groups, return_index=True)[1]
        return cls(ids, structures, energies, forces, labels, np.sort(order[firsts]))


@dataclass(frozen=True)
class Level:
    """What a potential says: energies (N,) in eV, NaN where unknown; forces in eV/Å, None where unknown."""

    name: str
    energies: FloatArray
    forces: list[FloatArray] | None


@dataclass(frozen=True)
class Errors:
    """Mean absolute and root mean square error of n numbers."""

    n: int
    mae: float
    rmse: float

    @classmethod
    def of(cls, errors: FloatArray) -> "Errors | None":
        """None of no numbers."""
        if not errors.size:
            return None
        return cls(errors.size, float(np.abs(errors).mean()), float(np.sqrt((errors**2).mean())))


@dataclass(frozen=True)
class Choice:
    """The structure that a potential puts lowest, and its reference energy above the lowest one, eV."""

    place: int
    above: float


@dataclass(frozen=True)
class Summary:
    """A potential in numbers.

    Parameters
    ----------
    n
        Structures whose energy it knows.
    energy
        Errors per atom, eV, a constant per composition taken off; of compositions with two structures at
        least.
    forces
        Errors of the components on atoms that may move, eV/Å.
    spearman, kendall
        Rank correlations of the energies of distinct structures with the reference's, within a composition;
        over compositions the mean, weighted by structures.
    """

    n: int
    energy: Errors | None
    forces: Errors | None
    spearman: float | None
    kendall: float | None


@dataclass(frozen=True)
class ForceClass:
    """Errors of the components of forces on the atoms of one kind, eV/Å, by the potentials' names."""

    element: str
    surroundings: str
    atoms: int
    errors: dict[str, Errors]


def energy_errors(truth: Truth, level: Level) -> FloatArray:
    """(N,) in eV: level minus reference, less its mean over each composition.

    NaN where the energy is unknown, or the only one of its composition, which a constant reproduces.
    """
    difference = level.energies - truth.energies
    known = np.isfinite(difference)
    errors = np.full(len(difference), np.nan)
    errors[known] = centred(difference[known], truth.compositions[known])
    counts = np.bincount(truth.compositions[known], minlength=truth.compositions.max(initial=0) + 1)
    errors[counts[truth.compositions] < 2] = np.nan
    return errors


def summarise(truth: Truth, level: Level) -> Summary:
    """Errors and rank correlations of a potential."""
    errors = energy_errors(truth, level) / np.array([len(atoms) for atoms in truth.structures])
    leaders = truth.leaders[np.isfinite(level.energies[truth.leaders])]
    ranks = []
    for label in np.unique(truth.compositions[leaders]):
        own = leaders[truth.compositions[leaders] == label]
        a, b = truth.energies[own], level.energies[own]
        if len(own) >= LEAST and np.ptp(a) > 0 and np.ptp(b) > 0:
            ranks.append((len(own), spearmanr(a, b).statistic, kendalltau(a, b).statistic))
    sizes = [size for size, _, _ in ranks]
    mean = [float(np.average(column, weights=sizes)) for column in list(zip(*ranks, strict=True))[1:]]
    return Summary(
        n=int(np.isfinite(level.energies).sum()),
        energy=Errors.of(errors[np.isfinite(errors)]),
        forces=_force_errors(truth, level),
        spearman=mean[0] if mean else None,
        kendall=mean[1] if mean else None,
    )


def lowest(truth: Truth, composition: int, count: int) -> IntArray:
    """The lowest distinct structures of a composition by the reference, at most `count`."""
    own = truth.leaders[truth.compositions[truth.leaders] == composition]
    return np.asarray(own[np.argsort(truth.energies[own], kind="stable")][:count], dtype=np.int64)


def ranks(truth: Truth, level: Level, composition: int) -> dict[int, int]:
    """The rank, from 1, that a potential gives to each distinct structure of a composition that it knows."""
    own = truth.leaders[truth.compositions[truth.leaders] == composition]
    own = own[np.isfinite(level.energies[own])]
    order = own[np.argsort(level.energies[own], kind="stable")]
    return {int(place): rank for rank, place in enumerate(order, 1)}


def choice(truth: Truth, level: Level, composition: int) -> Choice | None:
    """What a potential would call the lowest structure of a composition; None where it knows none."""
    by_rank = {rank: place for place, rank in ranks(truth, level, composition).items()}
    if not by_rank:
        return None
    best = float(truth.energies[truth.compositions == composition].min())
    return Choice(by_rank[1], float(truth.energies[by_rank[1]]) - best)


def forces_by_surroundings(truth: Truth, levels: Sequence[Level], around: Surroundings) -> list[ForceClass]:
    """Errors of forces on atoms that may move: by element, by the elements it is bonded to, by how many."""
    moving = _moving(truth)
    numbers = np.concatenate([atoms.numbers for atoms in truth.structures])[moving]
    neighbours = np.concatenate(around.neighbours)[moving]
    total = neighbours.sum(axis=1)
    errors = {
        level.name: (np.concatenate(level.forces) - np.concatenate(truth.forces))[moving]
        for level in levels
        if level.forces is not None
    }
    rows: list[ForceClass] = []
    for z in sorted(np.unique(numbers).tolist(), key=lambda z: chemical_symbols[z]):
        own = numbers == z
        classes: list[tuple[str, BoolArray]] = [("all", own)]
        for present in np.unique(neighbours[own] > 0, axis=0):
            names = [chemical_symbols[around.species[k]] for k in np.flatnonzero(present)]
            label = f"bonded to {' and '.join(names)}" if names else "alone"
            classes.append((label, own & ((neighbours > 0) == present).all(axis=1)))
        for low, high in COORDINATIONS:
            label = f"{low}" if low == high else f"{low} or more" if high > 99 else f"{low} to {high}"
            classes.append((f"coordination {label}", own & (total >= low) & (total <= high)))
        rows += [
            ForceClass(chemical_symbols[z], label, int(mask.sum()), _errors_of(errors, mask))
            for label, mask in classes
            if mask.any()
        ]
    return rows


def _errors_of(errors: dict[str, FloatArray], mask: BoolArray) -> dict[str, Errors]:
    found = {name: Errors.of(values[mask][np.isfinite(values[mask])]) for name, values in errors.items()}
    return {name: one for name, one in found.items() if one is not None}


def _force_errors(truth: Truth, level: Level) -> Errors | None:
    if level.forces is None:
        return None
    errors = (np.concatenate(level.forces) - np.concatenate(truth.forces))[_moving(truth)]
    return Errors.of(errors[np.isfinite(errors)])


def _moving(truth: Truth) -> BoolArray:
    """Flags of the atoms of all structures, one after the other, that may move."""
    flags = []
    for atoms in truth.structures:
        free = np.ones(len(atoms), dtype=np.bool_)
        for constraint in atoms.constraints:
            if isinstance(constraint, FixAtoms):
                free[constraint.index] = False
        flags.append(free)
    return np.concatenate(flags)

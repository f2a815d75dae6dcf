"""Bonds by distance, and how much of a potential's error each kind of bond carries.

arXiv 2502.21179 traces errors of foundation potentials for silver sulfides to their bonds: sulfur to sulfur
against sulfur to silver.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import neighbor_list

from godelta.arrays import BoolArray, FloatArray, IntArray

STRETCH = 1.2  # times the sum of covalent radii (Cordero et al., Dalton Trans. 2008, 2832) reaches a bond
TINY = 1e-8


@dataclass(frozen=True)
class Surroundings:
    """Who is bonded to whom.

    Parameters
    ----------
    species
        (S,) atomic numbers, in the order of their symbols.
    neighbours
        For each structure (n, S): how many atoms of each species each atom is bonded to.
    pairs
        Kinds of bonds, e.g. Ag-S.
    bonds
        (N, P): how many bonds of each kind each structure has.
    """

    species: tuple[int, ...]
    neighbours: list[IntArray]
    pairs: tuple[str, ...]
    bonds: IntArray


@dataclass(frozen=True)
class BondError:
    """What one kind of bond adds to the error of an energy.

    Parameters
    ----------
    pair
        The kind, e.g. Ag-S.
    slope, deviation
        Error for each bond and its standard error, eV; None where the structures do not tell it.
    present, absent
        How many structures have such bonds, and how many have none.
    difference, difference_deviation
        Mean error of those that have them, less that of those that have none, of the same composition, and
        its standard error, eV; None where that cannot be said.
    """

    pair: str
    slope: float | None
    deviation: float | None
    present: int
    absent: int
    difference: float | None
    difference_deviation: float | None


@dataclass(frozen=True)
class BondFit:
    """The errors of n structures as a sum over their bonds; `explained` is the share of the variance."""

    n: int
    explained: float | None
    bonds: list[BondError]


def surroundings(structures: Sequence[Atoms], *, stretch: float = STRETCH) -> Surroundings:
    """Count the bonds of structures: atoms nearer than the sum of their covalent radii, stretched.

    Periodic images count.
    """
    present = {int(z) for atoms in structures for z in np.unique(atoms.numbers)}
    species = tuple(sorted(present, key=lambda z: chemical_symbols[z]))
    place_of = np.zeros(len(chemical_symbols), dtype=np.int64)
    place_of[list(species)] = np.arange(len(species))
    kinds = list(combinations_with_replacement(range(len(species)), 2))
    reach = {
        (species[a], species[b]): stretch * (covalent_radii[species[a]] + covalent_radii[species[b]])
        for a, b in kinds
    }
    neighbours, bonds = [], np.zeros((len(structures), len(kinds)), dtype=np.int64)
    for k, atoms in enumerate(structures):
        i, j = neighbor_list("ij", atoms, reach)
        place = place_of[atoms.numbers]
        counts = np.zeros((len(atoms), len(species)), dtype=np.int64)
        np.add.at(counts, (i, place[j]), 1)
        neighbours.append(counts)
        for column, (a, b) in enumerate(kinds):
            both = int(counts[place == a, b].sum())
            bonds[k, column] = both // 2 if a == b else both
    names = [f"{chemical_symbols[species[a]]}-{chemical_symbols[species[b]]}" for a, b in kinds]
    return Surroundings(species, neighbours, tuple(names), bonds)


def error_per_bond(
    errors: FloatArray, bonds: IntArray, compositions: IntArray, pairs: Sequence[str]
) -> BondFit:
    """Fit errors of energies by numbers of bonds, and a constant for each composition.

    Ordinary least squares; a kind of bond whose number does not vary, or goes along with others, is not
    told. Structures that are equivalent make standard errors too small: give each once.

    Parameters
    ----------
    errors
        (N,) in eV.
    bonds
        (N, P) numbers of bonds.
    compositions
        (N,) labels.
    pairs
        P names.
    """
    x, y = centred(bonds.astype(np.float64), compositions), centred(errors, compositions)
    n = len(y)
    scale = np.sqrt((x**2).sum(axis=0))
    scale[scale < TINY] = 1.0
    _, values, vt = np.linalg.svd(x / scale, full_matrices=False)
    known = values > TINY * max(1.0, values.max(initial=0.0))
    rank = int(known.sum())
    range_ = vt[: len(values)][known]  # (rank, P): combinations of bonds that the structures tell
    slopes = range_.T @ ((range_ @ ((x / scale).T @ y)) / values[known] ** 2) / scale
    told = np.abs((range_**2).sum(axis=0) - 1.0) < 1e-6
    freedom = n - len(np.unique(compositions)) - rank
    left, total = float(((y - x @ slopes) ** 2).sum()), float((y**2).sum())
    deviations = np.full(len(pairs), np.nan)
    if freedom > 0:
        spread = ((range_ / values[known][:, None]) ** 2).sum(axis=0)
        deviations = np.sqrt(left / freedom * spread) / scale
    usable = told & (freedom > 0)
    found = [
        BondError(
            pair,
            float(slopes[p]) if usable[p] else None,
            float(deviations[p]) if usable[p] else None,
            int((bonds[:, p] > 0).sum()),
            int((bonds[:, p] == 0).sum()),
            *_difference(y, bonds[:, p] > 0, compositions),
        )
        for p, pair in enumerate(pairs)
    ]
    return BondFit(n, 1.0 - left / total if total > 0 and rank and freedom > 0 else None, found)


def _difference(
    errors: FloatArray, has: BoolArray, compositions: IntArray
) -> tuple[float, float] | tuple[None, None]:
    """The coefficient of "has such bonds" in a fit with a constant for each composition."""
    x, y = centred(has.astype(np.float64), compositions), centred(errors, compositions)
    freedom = len(y) - len(np.unique(compositions)) - 1
    norm = float(x @ x)
    if norm < TINY or freedom < 1:
        return None, None
    slope = float(x @ y) / norm
    return slope, float(np.sqrt(((y - slope * x) ** 2).sum() / freedom / norm))


def centred(values: FloatArray, compositions: IntArray) -> FloatArray:
    """Values (N, ...) less the mean of their composition."""
    result = np.array(values, dtype=np.float64)
    for label in np.unique(compositions):
        own = compositions == label
        result[own] -= result[own].mean(axis=0)
    return result

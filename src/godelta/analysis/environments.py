"""Which environments of a data set a foundation's embedding puts nearest to those of a structure.

arXiv 2502.21179 traces errors of foundation potentials to environments that their training data lack; far
from everything in the embedding, a potential extrapolates.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from ase import Atoms
from sklearn.neighbors import NearestNeighbors

from godelta.arrays import FloatArray, IntArray
from godelta.errors import InputError
from godelta.foundation.base import EmbeddingFoundation

BATCH = 16
VACUUM = 6.0  # Å on each side: no cutoff of a foundation reaches further


@dataclass(frozen=True, slots=True)
class Near:
    """An atom of the data set: place of its structure, from 0, its own place there, and its distance."""

    structure: int
    atom: int
    formula: str
    distance: float


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """An atom of the structure and the nearest environments of its species, nearest first.

    `novelty` is the distance to the first of them over the median of that distance among atoms of the data
    set, each to other structures; infinite where the data set has no such species, NaN where it has too few
    to tell.
    """

    atom: int
    symbol: str
    nearest: list[Near]
    novelty: float


@dataclass(frozen=True)
class _Species:
    features: FloatArray  # (m, d)
    owners: IntArray  # (m,) place of the structure
    atoms: IntArray  # (m,) place in the structure


@dataclass(frozen=True)
class EnvironmentIndex:
    """The environments of a data set in a foundation's embedding, by atomic number."""

    foundation: EmbeddingFoundation
    formulas: tuple[str, ...]
    species: dict[int, _Species]

    @classmethod
    def build(
        cls,
        foundation: EmbeddingFoundation,
        structures: Iterable[Atoms],
        *,
        numbers: Sequence[int] | None = None,
        done: Callable[[int], None] = lambda _: None,
    ) -> "EnvironmentIndex":
        """Compute the features of a data set.

        Parameters
        ----------
        numbers
            Atomic numbers that will be asked for; by default all are kept.
        done
            Told how many structures are done, now and then.

        Raises
        ------
        InputError
            There is no structure.
        """
        formulas: list[str] = []
        found: dict[int, list[tuple[FloatArray, IntArray, IntArray]]] = {}
        for batch in _batches(map(_in_a_cell, structures)):
            for atoms, features in zip(batch, foundation.features(batch), strict=True):
                for number in np.unique(atoms.numbers):
                    if numbers is None or number in numbers:
                        own = np.flatnonzero((atoms.numbers == number) & np.isfinite(features).all(axis=1))
                        owner = np.full(len(own), len(formulas))
                        found.setdefault(int(number), []).append((features[own], owner, own))
                formulas.append(atoms.get_chemical_formula())
            done(len(formulas))
        if not formulas:
            raise InputError(
                "the data set holds no structure", mend="give a file that ASE reads, e.g. .extxyz"
            )
        species = {
            number: _Species(*(np.concatenate(column) for column in zip(*parts, strict=True)))
            for number, parts in found.items()
        }
        return cls(foundation, tuple(formulas), species)

    def nearest(self, atoms: Atoms, count: int = 3) -> list[Neighbourhood]:
        """The nearest environments of each atom, of its own species.

        Parameters
        ----------
        count
            How many for each atom; at most one from each structure of the data set.
        """
        (features,) = self.foundation.features([atoms])
        result: list[Neighbourhood | None] = [None] * len(atoms)
        for number in np.unique(atoms.numbers):
            own = np.flatnonzero(atoms.numbers == number)
            for k, found in zip(own, self._of_species(int(number), features[own], count), strict=True):
                near, novelty = found
                result[k] = Neighbourhood(int(k), atoms.symbols[k], near, novelty)
        return [one for one in result if one is not None]

    def _of_species(self, number: int, features: FloatArray, count: int) -> list[tuple[list[Near], float]]:
        known = self.species.get(number)
        if known is None:
            return [([], np.inf)] * len(features)
        search = NearestNeighbors().fit(known.features)
        usual = self._usual(known, search)
        answers = []
        for row in features:
            near = self._distinct(known, search, row, count)
            ratio = near[0].distance / usual if usual > 0 else np.nan
            answers.append((near, float(ratio)))
        return answers

    def _distinct(self, known: _Species, search: NearestNeighbors, row: FloatArray, count: int) -> list[Near]:
        """The nearest atoms, the first of each structure only."""
        asked = min(count, len(known.owners))
        while True:
            distances, places = search.kneighbors(row[None, :], n_neighbors=asked)
            firsts = np.sort(np.unique(known.owners[places[0]], return_index=True)[1])[:count]
            if len(firsts) == count or asked == len(known.owners):
                break
            asked = min(4 * asked, len(known.owners))
        return [
            Near(
                structure=int(known.owners[places[0, k]]),
                atom=int(known.atoms[places[0, k]]),
                formula=self.formulas[known.owners[places[0, k]]],
                distance=float(distances[0, k]),
            )
            for k in firsts
        ]

    def _usual(self, known: _Species, search: NearestNeighbors, most: int = 500) -> float:
        """Median distance of the data set's atoms to the nearest one of another structure, NaN if unknown."""
        if len(np.unique(known.owners)) < 3:
            return float("nan")
        chosen = np.unique(np.linspace(0, len(known.owners) - 1, most).astype(np.int64))
        found = []
        for k in chosen:
            near = self._distinct(known, search, known.features[k], 2)
            found.append(next(one.distance for one in near if one.structure != known.owners[k]))
        return float(np.median(found))


def _in_a_cell(atoms: Atoms) -> Atoms:
    """Molecules of a data set may have no cell, and foundations need one."""
    if atoms.cell.rank == 3:
        return atoms
    boxed: Atoms = atoms.copy()
    boxed.center(vacuum=VACUUM, axis=np.flatnonzero(~atoms.cell.any(axis=1)))
    return boxed


def _batches(structures: Iterable[Atoms]) -> Iterator[list[Atoms]]:
    rest = iter(structures)
    while batch := list(islice(rest, BATCH)):
        yield batch

"""Structures that are the same up to symmetry and exchange of like atoms."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from godelta.arrays import FloatArray, IntArray
from godelta.systems.geometry import MinimumImage

ENERGY_TOLERANCE = 0.02  # eV
DISTANCE_TOLERANCE = 0.1  # Å, for the largest difference of sorted distances
MEAN_TOLERANCE = 0.02  # relative, for the summed difference of sorted distances


def group(structures: Sequence[Atoms], energies: FloatArray) -> IntArray:
    """Labels (n,) from 0, in order of appearance; equivalent structures share one.

    Two structures are equivalent if their composition is the same, their energies differ by less
    than 0.02 eV, and their sorted distances, species pair by species pair and with minimum images,
    differ by less than 0.1 Å each and 2 % in sum (after Vilhelmsen and Hammer, J. Chem. Phys. 141,
    044711 (2014)). Rotations, translations, mirror images and permutations leave these as they are.

    Parameters
    ----------
    structures
        n structures.
    energies
        (n,) energies in eV, all of the same level.
    """
    prints = [_fingerprint(atoms) for atoms in structures]
    labels = np.full(len(prints), -1, dtype=np.int64)
    leaders: dict[tuple[int, ...], list[int]] = {}
    for i, (composition, distances) in enumerate(prints):
        known = leaders.setdefault(composition, [])
        close = np.array([k for k in known if abs(energies[k] - energies[i]) < ENERGY_TOLERANCE], dtype=int)
        if len(close):
            difference = np.abs(np.stack([prints[k][1] for k in close]) - distances)
            same = (difference.max(axis=1, initial=0.0) < DISTANCE_TOLERANCE) & (
                difference.sum(axis=1) <= MEAN_TOLERANCE * distances.sum()
            )
            if same.any():
                labels[i] = labels[close[int(same.argmax())]]
                continue
        labels[i] = labels.max(initial=-1) + 1
        known.append(i)
    return labels


def _fingerprint(atoms: Atoms) -> tuple[tuple[int, ...], FloatArray]:
    """Composition, and distances sorted within each pair of species, one after the other."""
    image = MinimumImage.of(atoms.cell.array, atoms.pbc)
    distances = image.distances(atoms.positions, atoms.positions)
    first, second = np.triu_indices(len(atoms), k=1)
    numbers = np.sort(np.stack([atoms.numbers[first], atoms.numbers[second]]), axis=0)
    values = distances[first, second]
    order = np.lexsort((values, numbers[1], numbers[0]))
    return tuple(int(z) for z in np.sort(atoms.numbers)), np.asarray(values[order], dtype=float)

"""What failed evaluations teach: a repulsion that keeps the search out of where the reference fails.

A failure has no energy to learn from, only a place. It is explained in two steps, both by non-negative
least squares, so that every term is repulsive:

1. Walls between pairs of species, as short as the failures say: candidates are the closest contacts of
   failed structures that no good one has survived. One cause that many failures share is the cheapest
   explanation, and it holds for structures that were never seen.
2. What no contact explains: bumps on the local environments of the failed structures, at zero where good
   structures are.

The Δ-model itself is untouched: its data are energies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from godelta.arrays import BoolArray, FloatArray, IntArray
from godelta.delta.local_kernel import Environments, LocalKernel
from godelta.delta.settings import SOAPSettings
from godelta.delta.soap import SOAP
from godelta.systems.geometry import MinimumImage

HEIGHT = 5.0  # eV that a failed structure is raised above the energy at which it was proposed
UNIT = 0.1  # Å: a wall's energy is its stiffness times ((reach - r)/UNIT)²


@dataclass(frozen=True)
class Repulsion:
    """Energy to add to foundation + Δ, never negative.

    Parameters
    ----------
    pairs
        (w, 2) atomic numbers of the species that repel each other.
    reach
        (w,) distances in Å at which the walls begin.
    stiffness
        (w,) eV at UNIT below the reach.
    soap, species
        The bumps' descriptor; species are sorted atomic numbers.
    kernel
        The bumps' centres, in blocks by species.
    heights
        (m,) heights of the bumps in eV.
    """

    pairs: IntArray
    reach: FloatArray
    stiffness: FloatArray
    soap: SOAPSettings
    species: tuple[int, ...]
    kernel: LocalKernel
    heights: FloatArray

    @cached_property
    def _descriptor(self) -> SOAP:
        return SOAP(self.soap, self.species)

    def __str__(self) -> str:
        walls = [
            f"{chemical_symbols[a]}-{chemical_symbols[b]} below {reach:.1f} Å"
            for (a, b), reach in zip(self.pairs.tolist(), self.reach, strict=True)
        ]
        return f"walls ({', '.join(walls) or 'none'}) and {len(self.heights)} bumps"

    def evaluate(self, atoms: Atoms, moving: BoolArray | None = None) -> tuple[float, FloatArray]:
        """Energy in eV and forces (n, 3) in eV/Å.

        Parameters
        ----------
        moving
            (n,) flags; forces on other atoms are zero. All atoms by default.
        """
        energy, forces = 0.0, np.zeros((len(atoms), 3))
        for (a, b), reach, stiffness in zip(self.pairs, self.reach, self.stiffness, strict=True):
            part, pushes = wall(atoms, int(a), int(b), float(reach), moving)
            energy += stiffness * part
            forces += stiffness * pushes
        if self.kernel.size:
            features, context = self._descriptor.describe(atoms)
            values = self.kernel.values(Environments(features, context.kinds))
            part, gradient = self.kernel.pull_back(values, self.heights, features.shape)
            energy += part
            forces -= self._descriptor.vjp(context, gradient, moving)
        return float(energy), forces


def wall(
    atoms: Atoms, a: int, b: int, reach: float, moving: BoolArray | None = None
) -> tuple[float, FloatArray]:
    """Energy [eV] and forces (n, 3) [eV/Å] of a wall of stiffness 1 eV between the atoms of species a and b.

    Atoms that are not `moving` (n,) feel no force, and two of them no wall.
    """
    forces = np.zeros((len(atoms), 3))
    ends, vectors, distances = contacts(atoms, a, b, moving, reach)
    depth = (reach - distances) / UNIT
    pushes = (2.0 * depth / UNIT / np.maximum(distances, 1e-9))[:, None] * vectors
    np.add.at(forces, ends[:, 0], pushes)
    np.add.at(forces, ends[:, 1], -pushes)
    if moving is not None:
        forces[~moving] = 0.0
    return float(depth @ depth), forces


def contacts(
    atoms: Atoms, a: int, b: int, moving: BoolArray | None, reach: float
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Pairs of atoms (p, 2), of species a and b, closer than `reach`, vectors (p, 3), distances (p,), Å.

    Each pair comes once; two atoms that both never move are none.
    """
    first, second = np.flatnonzero(atoms.numbers == a), np.flatnonzero(atoms.numbers == b)
    vectors = _image_of(atoms).vectors(atoms.positions[first, None] - atoms.positions[None, second])
    distances = np.linalg.norm(vectors, axis=-1)
    if a == b:
        distances[np.tril_indices(len(first))] = np.inf
    if moving is not None:
        distances[~moving[first][:, None] & ~moving[second][None]] = np.inf
    i, j = np.nonzero(distances < reach)
    return np.column_stack([first[i], second[j]]), vectors[i, j], distances[i, j]


def _image_of(atoms: Atoms) -> MinimumImage:
    return _image(np.asarray(atoms.cell.array, dtype=np.float64).tobytes(), tuple(atoms.pbc.tolist()))


@lru_cache(maxsize=16)
def _image(cell: bytes, pbc: tuple[bool, ...]) -> MinimumImage:
    return MinimumImage.of(np.frombuffer(cell).reshape(3, 3), np.array(pbc))


def closest_contacts(atoms: Atoms, species: Sequence[int], moving: BoolArray | None) -> FloatArray:
    """(s, s) closest distances in Å of each pair of species, symmetric; inf where there is none.

    Two atoms that both never move are no pair.
    """
    rows = np.arange(len(atoms)) if moving is None else np.flatnonzero(moving)
    distances = _image_of(atoms).distances(atoms.positions[rows], atoms.positions)
    distances[np.arange(len(rows)), rows] = np.inf
    of_row = [atoms.numbers[rows] == z for z in species]
    of_column = [atoms.numbers == z for z in species]
    closest = np.array(
        [[distances[np.ix_(a, b)].min(initial=np.inf) for b in of_column] for a in of_row], dtype=np.float64
    )
    # An atom that never moves is in a column only.
    return np.minimum(closest, closest.T)

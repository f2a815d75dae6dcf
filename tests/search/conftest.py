import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones
from ase.data import covalent_radii

from godelta.foundation.base import PotentialBatch
from godelta.systems.confinement import Confinement
from godelta.systems.problem import SearchProblem

sys.path.insert(0, str(Path(__file__).parent))  # for `every_method`


class FromCalculator:
    """An ASE calculator as a potential, plus a constant; it remembers what it was asked."""

    def __init__(self, calculator: Calculator, offset: float = 0.0) -> None:
        self.calculator = calculator
        self.offset = offset
        self.sizes: list[int] = []
        self.seen: list[np.ndarray] = []

    def evaluate(
        self, structures: Sequence[Atoms], *, kappa: float = 0.0, uncertainty: bool = False
    ) -> PotentialBatch:
        self.sizes.append(len(structures))
        energies, forces = [], []
        for atoms in structures:
            bare = atoms.copy()
            bare.set_constraint()
            bare.calc = self.calculator
            forces.append(bare.get_forces())
            energies.append(bare.get_potential_energy())
            self.seen.append(bare.positions)
        plain = np.array(energies)
        return PotentialBatch(plain + self.offset, forces, plain, np.full(len(plain), np.nan))


@pytest.fixture
def from_calculator() -> type[FromCalculator]:
    return FromCalculator


@pytest.fixture
def lennard_jones() -> LennardJones:
    """Argon with epsilon = 1 eV, a pair's minimum at the sum of covalent radii, and 20 sigma of range."""
    sigma = 2 * covalent_radii[18] / 2 ** (1 / 6)
    return LennardJones(sigma=sigma, epsilon=1.0, rc=20 * sigma, ro=19 * sigma, smooth=True)


@pytest.fixture
def cluster() -> Callable[..., SearchProblem]:
    """Makes a cluster problem with a cubic confinement in the middle of a 20 Å box."""

    def make(formula: str, edge: float = 8.0) -> SearchProblem:
        return SearchProblem(
            Atoms(cell=np.eye(3) * 20.0),
            np.zeros(0, dtype=bool),
            Atoms(formula).numbers.astype(np.int64),
            Confinement(np.eye(3) * edge, np.full(3, 0.5 * (20.0 - edge)), (True,) * 3),
        )

    return make


@pytest.fixture
def surface() -> Callable[..., SearchProblem]:
    """Makes a Cu(111) problem; `dimensions` 2 or 3, `held` fixed layers of two."""

    def make(formula: str, dimensions: int = 3, held: int = 2) -> SearchProblem:
        slab = fcc111("Cu", (3, 3, 2), vacuum=0.0, periodic=True)
        slab.positions[:, 2] += 5.0 - slab.positions[:, 2].min()
        cell = np.array(slab.cell)
        cell[2] = (0, 0, 24.0)
        template = Atoms(slab.numbers, slab.positions, cell=cell, pbc=(True, True, False))
        top = slab.positions[:, 2].max()
        if dimensions == 2:
            region = Confinement(cell[:2], np.array([0, 0, top + 1.9]), (False, False))
        else:
            spans = np.array([cell[0], cell[1], [0, 0, 5.0]])
            region = Confinement(spans, np.array([0, 0, top + 0.5]), (False, False, True))
        fixed = np.asarray(slab.get_tags() > 2 - held)
        return SearchProblem(template, fixed, Atoms(formula).numbers.astype(np.int64), region)

    return make

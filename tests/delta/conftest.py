from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111


def _cluster(seed: int, formula: str = "Ag4S3", spread: float = 1.6) -> Atoms:
    """A random cluster without close contacts."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(formula, cell=[15.0] * 3)
    placed: list[np.ndarray] = []
    while len(placed) < len(atoms):
        trial = rng.normal(scale=spread, size=3)
        if all(np.linalg.norm(trial - other) > 1.8 for other in placed):
            placed.append(trial)
    atoms.positions = np.array(placed) + 7.5
    return atoms


@pytest.fixture
def cluster() -> Callable[..., Atoms]:
    return _cluster


@pytest.fixture
def slab() -> Atoms:
    atoms = fcc111("Ag", (2, 2, 2), vacuum=6.0)
    atoms.pbc = (True, True, False)
    top = atoms.positions[:, 2].max()
    atoms += Atoms("AgS", positions=[[1.0, 0.7, top + 2.2], [3.1, 2.0, top + 1.6]])
    atoms.rattle(0.1, seed=3)
    return atoms


@pytest.fixture
def toy_energy() -> Callable[[Atoms], float]:
    """A smooth pair energy in eV that knows the species: something that can be learned."""

    def energy(atoms: Atoms) -> float:
        r = atoms.get_all_distances() + np.eye(len(atoms)) * 1e3
        like = atoms.numbers[:, None] == atoms.numbers[None, :]
        return float(np.sum(np.where(like, -0.3, 0.2) * np.exp(-((r / 3.0) ** 2)))) - 0.4 * len(atoms)

    return energy

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111

from godelta.delta.model import Correction
from godelta.delta.sparse_gp import SparseGP

sys.path.insert(0, str(Path(__file__).parent))  # for `embedding_toy`


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


def _whitened(correction: Correction) -> tuple:
    """The regression that a model was fitted to: its problem, noise deviations (N,), and G and t of them."""
    training, p = correction.training, correction.posterior
    counts = training.counts.astype(float)
    counts = counts if correction.settings.species_mean else counts.sum(axis=1, keepdims=True)
    gp = SparseGP(len(correction.species), correction.settings)
    data = gp._problem(
        correction.kernel, correction.rows, counts, training.residuals, training.excess, training.owners
    )
    d = data.deviations(p.amplitude / p.scale, p.noise)
    return data, d, data.features / d[:, None], data.residual / d


@pytest.fixture
def whitened() -> Callable[[Correction], tuple]:
    return _whitened


@pytest.fixture
def data(cluster, toy_energy):
    def make(n, start=0, formulas=("Ag4S3", "Ag3S4", "Ag2S2")):
        structures = [cluster(k, formulas[k % len(formulas)]) for k in range(start, start + n)]
        return structures, np.array([toy_energy(a) for a in structures]), [f"id-{k:03d}" for k in range(n)]

    return make

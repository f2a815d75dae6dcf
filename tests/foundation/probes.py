"""Structures, and checks of energies, that the tests of several foundations share."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111

from godelta.foundation.torch_graph import Added


def cluster(seed: int, symbols: str = "Ag4S2") -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(symbols, cell=[18.0] * 3, pbc=True)
    atoms.positions = 6 + 5 * rng.random((len(atoms), 3))
    return atoms


def slab() -> Atoms:
    atoms = fcc111("Ag", (2, 2, 3), vacuum=5.0, periodic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def squares(latent) -> Added:
    """A function of the features, in the place of a Δ-model: the sum of their squares."""
    features = latent.features.detach().double()
    each = (features**2).sum(1)
    sums = each.new_zeros(latent.count).index_add(0, latent.owners, each)
    return Added(sums.cpu().numpy(), 2 * features)


def assert_derivatives_are_central_differences(foundation, step: float) -> None:
    """Forces and stress of the potential and of what is added to it, to 1e-6 of the greatest."""
    atoms = slab()
    batch = foundation.evaluate_with([cluster(0), atoms], squares, stress=True)
    alone = foundation.evaluate([atoms])
    assert np.abs(batch.forces[1] - alone.forces[0]).max() > 1e-3

    def total(structures):
        found = foundation.evaluate_with(structures, squares)
        return found.energies + found.added

    moved = []
    for number in range(len(atoms)):
        for axis in range(3):
            for sign in (1, -1):
                moved.append(atoms.copy())
                moved[-1].positions[number, axis] += sign * step
    energies = total(moved).reshape(len(atoms), 3, 2)
    numerical = -(energies[..., 0] - energies[..., 1]) / (2 * step)
    np.testing.assert_allclose(batch.forces[1], numerical, atol=1e-6 * np.abs(numerical).max())
    strained = []
    for first, second in np.ndindex(3, 3):
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[first, second] += sign * step / 2
            strain[second, first] += sign * step / 2
            strained.append(atoms.copy())
            strained[-1].set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    energies = total(strained).reshape(3, 3, 2)
    stress = (energies[..., 0] - energies[..., 1]) / (2 * step) / atoms.get_volume()
    np.testing.assert_allclose(batch.stresses[1], stress, atol=1e-6 * np.abs(stress).max())


def assert_a_left_handed_cell_is_the_same_crystal(foundation) -> None:
    right = slab()
    left = right.copy()
    left.set_cell(right.cell.array[[1, 0, 2]])
    batch = foundation.evaluate_with([right, left], stress=True)
    assert batch.energies[1] == pytest.approx(batch.energies[0], abs=1e-9)
    np.testing.assert_allclose(batch.forces[1], batch.forces[0], atol=1e-9)
    np.testing.assert_allclose(batch.stresses[1], batch.stresses[0], atol=1e-9)


def assert_isolated_atoms_feel_nothing(foundation) -> None:
    far = Atoms("AgS", positions=[[2, 2, 2], [10, 10, 10]], cell=[16.0] * 3)
    single = Atoms("Ag", positions=[[2, 2, 2]], cell=[16.0] * 3)
    alone = foundation.evaluate_with([single], squares, stress=True)
    np.testing.assert_array_equal(alone.forces[0], 0.0)
    np.testing.assert_array_equal(alone.stresses, 0.0)
    batch = foundation.evaluate([cluster(0), far, single])
    np.testing.assert_array_equal(batch.forces[1], 0.0)
    assert batch.energies[2] == pytest.approx(alone.energies[0], abs=1e-12)
    assert len(foundation.evaluate([]).energies) == 0

"""Forces as energies of displaced copies, against finite differences and brute force."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from godelta.delta import regression
from godelta.delta.displaced import STEP, displaced_copies, owners
from godelta.delta.model import DeltaModel, train
from godelta.delta.settings import DELTA_PRESETS, DeltaSettings
from godelta.foundation.base import FoundationBatch


class Nothing:
    """A foundation that knows nothing."""

    identity = None

    def evaluate(self, structures):
        return FoundationBatch(np.zeros(len(structures)), [np.zeros((len(a), 3)) for a in structures])


def _clusters(count):
    rng = np.random.default_rng(2)
    shape = np.array([[0, 0, 0], [2.5, 0, 0], [1.2, 2.2, 0], [1.2, 0.8, 2.1], [3.6, 2.2, 0.2]]) + 5.0
    return [
        Atoms("Cu4Ag", shape + rng.normal(scale=0.15, size=shape.shape), cell=[15.0] * 3)
        for _ in range(count)
    ]


def _evaluated(structures):
    energies, forces = [], []
    for atoms in structures:
        twin = atoms.copy()
        twin.calc = EMT()
        energies.append(twin.get_potential_energy())
        forces.append(twin.get_forces())
    return np.array(energies), forces


def test_the_first_copy_goes_along_the_residual_forces_of_moving_atoms():
    atoms = _clusters(1)[0]
    atoms.set_constraint(FixAtoms(indices=[0]))
    forces = _evaluated([atoms])[1][0]
    moving = np.array([False, True, True, True, True])
    ids, copies, changes = displaced_copies(atoms, "a", forces, moving, 3)
    shifts = np.array([copy.positions - atoms.positions for copy in copies])
    assert np.linalg.norm(shifts, axis=2).max(axis=1) == pytest.approx(STEP)
    assert not shifts[:, 0].any()
    assert np.sum(shifts[0] * forces) == pytest.approx(np.linalg.norm(shifts[0]) * np.linalg.norm(forces[1:]))
    np.testing.assert_allclose(changes, [-np.sum(forces * shift) for shift in shifts])
    assert displaced_copies(atoms, "a", forces, moving, 3)[0] == ids
    assert displaced_copies(atoms, "a", 2 * forces + 1, moving, 3)[0][0] != ids[0]
    assert owners(["a", "b", *ids]).tolist() == [0, 1, 0, 0, 0]


def test_changes_are_those_of_the_reference_energy_to_first_order():
    atoms = _clusters(1)[0]
    energy, forces = _evaluated([atoms])
    _, copies, changes = displaced_copies(atoms, "a", forces[0], None, 4)
    error = np.abs(_evaluated(copies)[0] - energy[0] - changes)
    squares = np.array([np.sum((copy.positions - atoms.positions) ** 2) for copy in copies])
    assert (error < 15.0 * squares).all()  # half a bond's force constant in eV/Å²
    assert (error < 0.1 * np.abs(changes).max()).all()


def test_forces_in_training_give_better_forces_elsewhere():
    structures = _clusters(40)
    energies, forces = _evaluated(structures)
    errors, left_out = {}, {}
    for directions in (0, 1):
        correction = train(
            DeltaSettings(forces_as="copies", force_directions=directions),
            (29, 47),
            structures[:20],
            np.zeros(20),
            energies[:20],
            [f"{k:02d}" for k in range(20)],
            residual_forces=forces[:20],
        )
        assert correction.metrics["n_structures"] == 20
        assert correction.kernel.size == 100
        predicted = DeltaModel(Nothing(), correction).evaluate(structures[20:]).forces
        errors[directions] = np.sqrt(np.mean((np.array(predicted) - np.array(forces[20:])) ** 2))
        left_out[directions] = correction.metrics["loo_rmse_ev"]
    assert errors[1] < 0.8 * errors[0]
    assert left_out[1] < 0.6 * left_out[0]


@pytest.mark.parametrize("rank", [30, 5])
def test_copies_are_left_out_with_their_owner(rank):
    rng = np.random.default_rng(0)
    G, t, noise = rng.normal(size=(12, rank)), rng.normal(size=12), 0.05
    group = np.array([0, 1, 2, 0, 1, 5, 6, 7, 0, 9, 10, 11])
    solution = regression.solve(G, t, noise, group)
    for owner in np.unique(group):
        block, rest = np.flatnonzero(group == owner), np.flatnonzero(group != owner)
        weights = G[rest].T @ np.linalg.solve(G[rest] @ G[rest].T + noise * np.eye(len(rest)), t[rest])
        np.testing.assert_allclose(solution.loo_residuals[block], t[block] - G[block] @ weights, rtol=1e-6)
        K = G[block] @ G[rest].T
        covariance = G[block] @ G[block].T + noise * np.eye(len(block))
        covariance -= K @ np.linalg.solve(G[rest] @ G[rest].T + noise * np.eye(len(rest)), K.T)
        np.testing.assert_allclose(solution.loo_variances[block], np.diag(covariance), rtol=1e-6)


def test_the_papers_learn_energies_only():
    assert DELTA_PRESETS["paper"]["force_directions"] == 0
    assert DeltaSettings(preset="paper").force_directions == 0

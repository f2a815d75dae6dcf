"""Forces in training as derivatives of the kernel, against finite differences and brute force."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from godelta.delta.gradients import Datum, directions_of, kernel_rows
from godelta.delta.local_kernel import Environments, LocalKernel
from godelta.delta.model import Correction, train
from godelta.delta.settings import DeltaSettings
from godelta.delta.soap import SOAP

SHAPE = np.array([[0, 0, 0], [2.5, 0, 0], [1.2, 2.2, 0], [1.2, 0.8, 2.1], [3.6, 2.2, 0.2]]) + 5.0
ALL = {"forces_as": "gradients", "force_directions": 100}


def clusters(count, formula="Cu4Ag", seed=2):
    rng = np.random.default_rng(seed)
    size = len(Atoms(formula))
    return [
        Atoms(formula, SHAPE[:size] + rng.normal(scale=0.15, size=(size, 3)), cell=[15.0] * 3)
        for _ in range(count)
    ]


def evaluated(structures):
    energies, forces = [], []
    for atoms in structures:
        twin = atoms.copy()
        twin.calc = EMT()
        energies.append(twin.get_potential_energy())
        forces.append(twin.get_forces(apply_constraint=False))
    return np.array(energies), forces


def fit(structures, previous=None, **settings):
    energies, forces = evaluated(structures)
    ids = [f"{k:02d}" for k in range(len(structures))]
    nothing = np.zeros(len(structures))
    return train(
        DeltaSettings(**settings),
        (29, 47),
        structures,
        nothing,
        energies,
        ids,
        residual_forces=forces,
        previous=previous,
    )


def test_directions_are_orthonormal_and_of_moving_atoms():
    atoms = clusters(1)[0]
    forces = evaluated([atoms])[1][0]
    moving = np.array([False, True, True, True, True])
    few, every = (directions_of(atoms, "a", forces, moving, count) for count in (3, 100))
    assert (few.shape, every.shape) == ((3, 5, 3), (12, 5, 3))
    for u in (few, every):
        flat = u.reshape(len(u), -1)
        np.testing.assert_allclose(flat @ flat.T, np.eye(len(u)), atol=1e-12)
        assert not u[:, 0].any()
    along = np.abs(np.sum(few[0] * forces)) / np.linalg.norm(forces[1:])
    assert along == pytest.approx(1.0)
    np.testing.assert_array_equal(few, every[:3])
    assert directions_of(atoms, "a", forces, np.zeros(5, dtype=bool), 3).shape == (0, 5, 3)


@pytest.mark.parametrize("species_kernels", [True, False])
def test_a_row_is_the_derivative_of_the_kernel(species_kernels):
    atoms, *others = clusters(5)
    soap = SOAP(DeltaSettings().soap, (29, 47))
    environments = [Environments(soap.features(a), soap.kinds(a)) for a in others]
    groups = [np.concatenate([x.features[x.kinds == z] for x in environments]) for z in (range(2))]
    kernel = LocalKernel(tuple(groups) if species_kernels else (np.concatenate(groups),), 3.0)
    rng = np.random.default_rng(0)
    for _ in range(3):
        u = rng.normal(size=(5, 3))
        data = [Datum("a", atoms), Datum("a~1", atoms, u)]
        (rows,) = kernel_rows([kernel], soap, data, {"a": soap.features(atoms)})
        ahead, behind = atoms.copy(), atoms.copy()
        ahead.positions += 1e-4 * u
        behind.positions -= 1e-4 * u
        moved = kernel.rows([Environments(soap.features(a), soap.kinds(a)) for a in (ahead, behind)])
        numeric = np.subtract(*moved) / 2e-4
        np.testing.assert_allclose(rows[1], numeric, rtol=1e-4, atol=1e-5 * np.abs(numeric).max())
        np.testing.assert_array_equal(kernel_rows([kernel], soap, data[1:], {})[0][0], rows[1])


def test_the_model_is_the_posterior_of_energies_and_forces(whitened):
    structures = clusters(6)
    correction = fit(structures, **ALL)
    training, p = correction.training, correction.posterior
    assert len(training.ids) == 6 * 16
    data = whitened(correction)[0]
    slopes = ~training.counts.any(axis=1)
    assert slopes.sum() == 90
    variances = p.noise * np.where(slopes, 3.0, 5.0)
    B = data.features @ data.features.T + np.diag(variances)
    counts = training.counts.astype(float)
    alpha = np.linalg.solve(B, training.residuals - counts @ p.mean)
    fitted = counts @ p.mean + data.features @ data.features.T @ alpha
    forces = np.array([correction.predict(a).forces for a in structures])
    energies = np.array([correction.predict(a).energy for a in structures])
    np.testing.assert_allclose(energies, fitted[~slopes], atol=1e-7)
    known = np.array(evaluated(structures)[1])
    directions = [
        directions_of(a, f"{k:02d}", known[k], None, 100).reshape(15, 15) for k, a in enumerate(structures)
    ]
    along = [-u @ f.ravel() for u, f in zip(directions, forces, strict=True)]
    np.testing.assert_allclose(np.sort(np.concatenate(along)), np.sort(fitted[slopes]), atol=1e-5)
    assert np.abs(forces - known).mean() < 0.1 * np.abs(known).mean()


def test_leaving_a_structure_out_leaves_its_forces_out(whitened):
    structures = clusters(8)
    correction = fit(structures, **ALL)
    p, training = correction.posterior, correction.training
    data, d, G, t = whitened(correction)
    own = training.ids.index("03")
    rest = training.owners != own
    B = G[rest] @ G[rest].T + p.noise * np.eye(rest.sum())
    expected = data.residual[own] - d[own] * (G[own] @ G[rest].T @ np.linalg.solve(B, t[rest]))
    assert correction.left_out.errors[3] == pytest.approx(expected, rel=1e-5)
    assert correction.metrics["n_structures"] == 8


def test_gradients_tell_more_than_copies():
    structures = clusters(40)
    known, forces = evaluated(structures[20:])
    errors = {}
    for name, settings in {"copies": {"forces_as": "copies", "force_directions": 1}, "gradients": {}}.items():
        correction = fit(structures[:20], **settings)
        predictions = [correction.predict(atoms) for atoms in structures[20:]]
        errors[name] = (
            np.mean(np.abs([p.energy - e for p, e in zip(predictions, known, strict=True)])),
            np.mean(np.abs([p.forces - f for p, f in zip(predictions, forces, strict=True)])),
        )
    assert errors["gradients"][0] < 0.8 * errors["copies"][0]
    assert errors["gradients"][1] < 0.8 * errors["copies"][1]


def test_a_refit_continues_and_ignores_the_order():
    structures = clusters(13)
    settings = {**ALL, "inducing_points": 40}
    previous = fit(structures[:12], **settings)
    stored = Correction.from_bytes(previous.to_bytes())
    assert np.isnan(stored.rows).all(axis=1).sum() == 12 * 15
    continued, again = fit(structures, previous, **settings), fit(structures, stored, **settings)
    assert continued.to_bytes() == again.to_bytes()
    np.testing.assert_array_equal(continued.rows, again.rows)
    assert continued.kernel.size == 40
    np.testing.assert_array_equal(continued.kernel.inducing[0], previous.kernel.inducing[0])
    place = [continued.training.ids.index(name) for name in previous.training.ids]
    np.testing.assert_array_equal(continued.rows[place], previous.rows)
    assert continued.training.owners.tolist().count(continued.training.ids.index("12")) == 16


def test_many_evaluations_are_learned_along_fewer_directions():
    structures = clusters(13)
    settings = {**ALL, "inducing_points": 10}
    before = fit(structures[:12], **settings)
    assert len(before.training.ids) == 12 + 12 * 8
    after = fit(structures, before, **settings)
    assert len(after.training.ids) == 13 + 13 * 7
    kept = [k for k, name in enumerate(after.training.ids) if name in before.training.ids]
    assert len(kept) == 12 + 12 * 7  # of each structure, all but one direction as before
    place = [before.training.ids.index(after.training.ids[k]) for k in kept]
    np.testing.assert_array_equal(after.rows[kept], before.rows[place])


def test_fixed_atoms_teach_nothing_and_a_bad_structure_is_outside_with_its_forces(whitened):
    structures = clusters(6)
    structures[0].set_constraint(FixAtoms(indices=[0, 1]))
    energies, forces = evaluated(structures)
    energies[5] += 80.0
    ids = [f"{k}" for k in range(6)]
    correction = train(
        DeltaSettings(**ALL), (29, 47), structures, np.zeros(6), energies, ids, residual_forces=forces
    )
    training = correction.training
    assert np.count_nonzero(training.owners == training.ids.index("0")) == 10
    data = whitened(correction)[0]
    outside = data.outside > 0
    np.testing.assert_array_equal(outside, training.owners == training.ids.index("5"))
    assert correction.metrics["n_inside_window"] == 5


def test_constants_per_species_are_learnt_exactly_with_forces_too():
    structures = [*clusters(6), *clusters(6, "Cu3Ag2", 5)]
    energies, forces = evaluated(structures)
    counts = np.array([[np.sum(a.numbers == z) for z in (29, 47)] for a in structures])
    ids = [f"{k:02d}" for k in range(12)]
    shift, probe = np.array([3.0, -40.0]), clusters(1, "Cu5", 9)[0]
    first, second = (
        train(
            DeltaSettings(**ALL), (29, 47), structures, np.zeros(12), y, ids, residual_forces=forces
        ).predict(probe)
        for y in (energies, energies + counts @ shift)
    )
    assert second.energy - first.energy == pytest.approx(15.0, abs=1e-7)
    np.testing.assert_allclose(second.forces, first.forces, atol=1e-7)

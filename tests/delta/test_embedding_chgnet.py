"""The Δ-model on CHGNet's features: forces and stresses from one backward pass, and what must not matter."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms

from godelta.delta.calculator import DeltaCalculator
from godelta.delta.displaced import displaced_copies
from godelta.delta.embedding import OnFeatures, features_of, train_embedding
from godelta.delta.gradients import directions_of
from godelta.delta.model import DeltaModel, train
from godelta.delta.repulsion import Repulsion
from godelta.delta.settings import DeltaSettings
from godelta.errors import GodeltaError, InputError
from godelta.foundation import ASEFoundationSettings, CHGNetSettings, load_foundation

AGGREGATIONS = ["global", "species", "atomic"]
SPECIES = (16, 47)


@pytest.fixture(scope="module")
def foundation(require):
    require("chgnet")
    return load_foundation(CHGNetSettings())


def embedding(aggregation="global", **changes) -> DeltaSettings:
    values = {"descriptor": "embedding", "aggregation": aggregation, "force_directions": 0}
    return DeltaSettings.model_validate(values | changes)


@pytest.fixture(scope="module")
def molecules():
    """Clusters without close contacts, in large boxes, and something to learn of each."""

    def make(seed, formula="Ag4S3", spread=1.8):
        rng = np.random.default_rng(seed)
        atoms = Atoms(formula, cell=[16.0] * 3, pbc=True)
        placed = []
        while len(placed) < len(atoms):
            trial = rng.normal(scale=spread, size=3)
            if all(np.linalg.norm(trial - other) > 2.1 for other in placed):
                placed.append(trial)
        atoms.positions = np.array(placed) + 8.0
        return atoms

    return make


def crystal(seed):
    atoms = bulk("Ag", cubic=True)
    atoms[0].number = 16
    atoms.set_cell(atoms.cell.array * (1 + 0.02 * seed), scale_atoms=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


@pytest.fixture(scope="module", params=AGGREGATIONS)
def model(request, foundation, molecules):
    structures = [molecules(k, "Ag4S3" if k % 3 else "Ag3S4") for k in range(10)]
    structures += [crystal(k) for k in range(4)]
    base = foundation.evaluate(structures).energies
    distances = [a.get_all_distances(mic=True) for a in structures]
    residuals = np.array([0.3 * np.exp(-((d / 3.0) ** 2)).sum() for d in distances])
    correction = train_embedding(
        embedding(request.param), SPECIES, structures, base, base + residuals, list("abcdefghijklmn"),
        foundation=foundation,
    )  # fmt: skip
    return DeltaModel(foundation, correction)


@pytest.mark.parametrize("kappa", [0.0, 2.0])
def test_forces_are_differences_of_e_minus_kappa_sigma(model, molecules, kappa):
    """In float32 differences are good to some 1e-3 eV/Å with a step of 0.01 Å."""
    structures, step = [molecules(20), molecules(21, "Ag3S2")], 1e-2
    batch = model.evaluate(structures, kappa=kappa)
    alone = model.foundation.evaluate(structures)
    for k, atoms in enumerate(structures):
        rng = np.random.default_rng(k)
        direction = rng.normal(size=(len(atoms), 3))
        direction /= np.linalg.norm(direction)
        moved = []
        for n in (2, 1, -1, -2):
            copy = atoms.copy()
            copy.positions += n * step * direction
            moved.append(copy)
        b = model.evaluate(moved, kappa=kappa, uncertainty=True)
        values = b.energies - kappa * b.uncertainties - b.foundation_energies
        learnt = -np.dot([-1 / 12, 2 / 3, -2 / 3, 1 / 12], values) / step
        ours = float(np.sum((batch.forces[k] - alone.forces[k]) * direction))
        scale = float(np.linalg.norm(batch.forces[k] - alone.forces[k]))
        assert ours == pytest.approx(learnt, abs=2e-3 + 5e-3 * scale)
        assert scale > 0.02
        assert batch.foundation_energies[k] == pytest.approx(alone.energies[k], abs=1e-4)


def test_stress_is_the_derivative_by_strain(model):
    atoms = crystal(2)
    atoms.rattle(0.02, seed=20)
    step, kappa = 5e-3, 1.5
    stress = model.evaluate([atoms], kappa=kappa, stress=True).stresses[0]
    strain = np.array([[1.0, 0.4, 0.0], [0.4, -0.5, 0.2], [0.0, 0.2, 0.7]])
    moved = []
    for sign in (1, -1):
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array @ (np.eye(3) + sign * step * strain), scale_atoms=True)
        moved.append(copy)
    b = model.evaluate(moved, kappa=kappa, uncertainty=True)
    up, down = b.energies - kappa * b.uncertainties
    expected = (up - down) / (2 * step) / atoms.get_volume()
    assert float(np.sum(stress * strain)) == pytest.approx(expected, rel=1e-2, abs=1e-3)
    alone = model.foundation.evaluate_with([atoms], stress=True).stresses[0]
    assert np.abs(stress - alone).max() > 1e-4


def test_translation_rotation_and_permutation(model, molecules):
    atoms = molecules(30)
    moved = atoms.copy()
    moved.translate([1.3, -0.7, 2.0])
    turned = atoms.copy()
    turned.rotate(77.0, (1, 2, 3), center="COU")
    order = np.random.default_rng(0).permutation(len(atoms))
    batch = model.evaluate([atoms, moved, turned, atoms[order]], kappa=1.0)
    learnt = batch.energies - batch.foundation_energies
    np.testing.assert_allclose(learnt, learnt[0], atol=2e-4)
    np.testing.assert_allclose(batch.uncertainties, batch.uncertainties[0], rtol=1e-3)
    np.testing.assert_allclose(batch.forces[1], batch.forces[0], atol=2e-3)
    np.testing.assert_allclose(batch.forces[3], batch.forces[0][order], atol=2e-3)


def test_periodic_images_and_supercells(model):
    slab = fcc111("Ag", (2, 2, 2), vacuum=6.0)
    slab.pbc = True
    slab += Atoms("S", positions=[[1.0, 0.7, slab.positions[:, 2].max() + 1.8]])
    outside = slab.copy()
    outside.positions[3] += slab.cell[0] - 2 * slab.cell[1]
    twice = slab.repeat((2, 1, 1))
    batch = model.evaluate([slab, outside, twice], uncertainty=True)
    learnt = batch.energies - batch.foundation_energies
    assert learnt[1] == pytest.approx(learnt[0], abs=2e-4)
    assert learnt[2] == pytest.approx(2 * learnt[0], abs=1e-3)


def test_isolated_atoms(model):
    alone = Atoms("Ag", positions=[[8.0, 8.0, 8.0]], cell=[16.0] * 3, pbc=True)
    far = Atoms("AgS", positions=[[2.0, 2.0, 2.0], [10.0, 10.0, 10.0]], cell=[16.0] * 3, pbc=True)
    batch = model.evaluate([alone, far], kappa=1.0)
    assert np.isfinite(batch.energies).all()
    assert (batch.uncertainties > 0).all()
    for forces in batch.forces:
        np.testing.assert_allclose(forces, 0.0, atol=1e-5)


def test_one_structure_at_a_time_is_the_same(model, molecules):
    structures = [molecules(40), molecules(41, "Ag2S"), molecules(42)]
    together = model.evaluate(structures, kappa=1.0)
    for k, atoms in enumerate(structures):
        alone = model.evaluate([atoms], kappa=1.0)
        assert alone.energies[0] == pytest.approx(together.energies[k], abs=1e-4)
        assert alone.uncertainties[0] == pytest.approx(together.uncertainties[k], rel=1e-3)
        np.testing.assert_allclose(alone.forces[0], together.forces[k], atol=2e-3)
    empty = model.evaluate([])
    assert len(empty.energies) == len(empty.forces) == len(empty.uncertainties) == 0


def test_a_foreign_species_is_named(model, molecules):
    with pytest.raises(InputError, match="covers S, Ag, but the structure contains Au"):
        model.evaluate([molecules(0, "Ag2Au")])


def test_constraints_change_nothing_for_atoms_that_move(model, molecules):
    atoms = molecules(50)
    free = model.evaluate([atoms], kappa=1.0)
    atoms.set_constraint(FixAtoms(indices=[0, 3]))
    held = model.evaluate([atoms], kappa=1.0)
    np.testing.assert_array_equal(held.forces[0], free.forces[0])
    assert held.energies[0] == free.energies[0]


def test_the_calculator_has_stress_where_every_part_has(model, molecules):
    atoms = molecules(60)
    atoms.calc = DeltaCalculator(model)
    batch = model.evaluate([atoms], uncertainty=True, stress=True)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), batch.stresses[0], atol=1e-7)
    assert atoms.calc.results["uncertainty"] == pytest.approx(batch.uncertainties[0])
    structures = [molecules(61), molecules(62)]
    soap = train(DeltaSettings(), SPECIES, structures, [0.0, 0.0], [0.1, 0.2], ["a", "b"])
    on_soap = DeltaModel(model.foundation, soap)
    assert "stress" not in DeltaCalculator(on_soap).implemented_properties
    with pytest.raises(GodeltaError, match="give no stress"):
        on_soap.evaluate(structures, stress=True)
    bare = DeltaModel(model.foundation)
    np.testing.assert_array_equal(
        bare.evaluate(structures, stress=True).stresses,
        model.foundation.evaluate_with(structures, stress=True).stresses,
    )


def test_it_learns_what_it_is_shown(foundation, molecules):
    """Each aggregation predicts unseen residuals better than their mean does, and roughly knows how well."""
    structures = [molecules(k) for k in range(60)]
    base = foundation.evaluate(structures)
    energy = [0.3 * np.exp(-((a.get_all_distances() / 3.0) ** 2)).sum() for a in structures]
    residuals = np.array(energy)
    ids = [f"{k:03d}" for k in range(40)]
    for aggregation in AGGREGATIONS:
        correction = train_embedding(
            embedding(aggregation), SPECIES, structures[:40], base.energies[:40],
            base.energies[:40] + residuals[:40], ids, foundation=foundation,
        )  # fmt: skip
        batch = DeltaModel(foundation, correction).evaluate(structures[40:], uncertainty=True)
        errors = batch.energies - batch.foundation_energies - residuals[40:]
        assert np.sqrt(np.mean(errors**2)) < 0.7 * np.std(residuals[40:])
        z = errors / batch.uncertainties
        assert 0.1 < np.sqrt(np.mean(z**2)) < 4.0


def test_features_of_a_structure_do_not_depend_on_the_batch(foundation, molecules):
    structures = [molecules(70), molecules(71, "Ag2S")]
    for together, alone in zip(
        features_of(foundation, structures), features_of(foundation, structures[1:] * 2), strict=True
    ):
        assert together.shape[1] == alone.shape[1] == foundation.feature_size
    np.testing.assert_array_equal(
        features_of(foundation, structures)[1], features_of(foundation, structures[1:])[0]
    )


def test_copies_are_displaced_by_more_than_round_off(foundation, molecules):
    """What makes forces learnable from float32 features."""
    atoms = molecules(80)
    forces = np.random.default_rng(0).normal(size=(len(atoms), 3))
    copies = displaced_copies(atoms, "a", forces, None, 1)[1]
    first, second = features_of(foundation, [atoms, *copies])
    moved = atoms.copy()
    moved.rotate(30.0, (1, 1, 0), center="COU")
    noise = np.linalg.norm(features_of(foundation, [moved])[0] - first)
    assert np.linalg.norm(second - first) > 100 * noise


def test_slopes_of_features_are_their_derivatives(foundation, molecules):
    """Against two backward passes: float32 leaves half a percent."""
    import torch

    atoms = molecules(81)
    directions = directions_of(atoms, "a", np.zeros((len(atoms), 3)), None, 5)
    found = OnFeatures(foundation, SPECIES).slopes(atoms, directions)
    done = foundation._forward([atoms], stress=False)
    features, positions = done.latent.features, done.positions[0]
    seed = torch.zeros_like(features, requires_grad=True)
    (pulled,) = torch.autograd.grad(features, positions, seed, create_graph=True)
    for slope, u in zip(found, directions, strict=True):
        along = torch.as_tensor(u, dtype=positions.dtype)
        (exact,) = torch.autograd.grad(pulled, seed, along, retain_graph=True)
        assert np.linalg.norm(slope - exact.numpy()) < 1e-2 * np.linalg.norm(exact.numpy())
    assert OnFeatures(foundation, SPECIES).slopes(atoms, []).shape == (0, len(atoms), foundation.feature_size)


def test_another_foundation_is_refused(model):
    other = load_foundation(CHGNetSettings(model="r2scan"))
    with pytest.raises(GodeltaError, match=r"knows the features of chgnet-0\.3\.0"):
        DeltaModel(other, model.correction)
    emt = load_foundation(ASEFoundationSettings(calculator="ase.calculators.emt.EMT"))
    with pytest.raises(InputError, match="needs a foundation that has features"):
        DeltaModel(emt, model.correction)
    with pytest.raises(InputError, match="needs a foundation that has features"):
        train_embedding(embedding(), SPECIES, [], [], [], [], foundation=emt)
    assert isinstance(model.correction.energies(model.foundation, []), np.ndarray)


def test_a_repulsion_is_added(model, molecules):
    from godelta.delta.local_kernel import LocalKernel
    from godelta.delta.settings import SOAPSettings

    wall = Repulsion(
        pairs=np.array([[47, 47]]), reach=np.array([4.0]), stiffness=np.array([0.01]), soap=SOAPSettings(),
        species=SPECIES, kernel=LocalKernel((np.empty((0, 3)),) * 2, 1.0), heights=np.empty(0),
    )  # fmt: skip
    atoms = molecules(90)
    energy, pushes = wall.evaluate(atoms)
    both = DeltaModel(model.foundation, model.correction, wall)
    batch, without = both.evaluate([atoms], kappa=1.0), model.evaluate([atoms], kappa=1.0)
    assert energy > 0.1
    assert batch.energies[0] == pytest.approx(without.energies[0] + energy, abs=1e-9)
    np.testing.assert_allclose(batch.forces[0], without.forces[0] + pushes, atol=1e-9)
    assert not both.has_stress

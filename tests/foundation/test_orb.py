"""ORB-v2 called directly, against the package's own calculator and central differences.

The published weights are a download: a model of few layers with random weights, built from the package's own
classes and saved to a file, goes the same way.
"""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from probes import (
    assert_a_left_handed_cell_is_the_same_crystal,
    assert_derivatives_are_central_differences,
    assert_isolated_atoms_feel_nothing,
    cluster,
    slab,
    squares,
)
from scipy.spatial.transform import Rotation

from godelta.errors import InputError
from godelta.foundation import load_foundation
from godelta.foundation.settings import ORBSettings
from godelta.foundation.weights import file_sha256

STEPS = 2


@pytest.fixture(scope="module")
def weights(require, tmp_path_factory):
    require("orb")
    import torch
    from orb_models.forcefield.pretrained import orb_v2_architecture

    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "small.ckpt"
    torch.save(orb_v2_architecture(num_message_passing_steps=STEPS, device="cpu").state_dict(), path)
    return path


@pytest.fixture(scope="module")
def foundation(weights):
    return load_foundation(ORBSettings(weights=str(weights), device="cpu", dtype="float64"))


def test_energies_and_features_equal_the_packages_own(weights):
    import torch
    from orb_models.forcefield.atomic_system import SystemConfig, ase_atoms_to_atom_graphs
    from orb_models.forcefield.calculator import ORBCalculator
    from orb_models.forcefield.pretrained import orb_v2_architecture

    config = SystemConfig(radius=6.0, max_num_neighbors=20)
    model = orb_v2_architecture(STEPS, device="cpu", system_config=config)
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    calculator = ORBCalculator(model, device="cpu")
    ours = load_foundation(ORBSettings(weights=str(weights), device="cpu"))
    structures = [cluster(0), slab(), cluster(1, "AgOS")]
    batch = ours.evaluate(structures)
    for atoms, energy, features in zip(structures, batch.energies, ours.features(structures), strict=True):
        atoms.calc = calculator
        assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        graph = ase_atoms_to_atom_graphs(atoms, config, device=torch.device("cpu"))
        theirs = model.model(graph)["node_features"].detach().numpy()
        np.testing.assert_allclose(features, theirs, atol=1e-4)
    assert features.shape == (3, ours.feature_size)


def test_the_default_precision_of_torch_is_of_no_account(weights):
    """A calculator of MACE in the same process sets it to float64."""
    import torch

    expected = load_foundation(ORBSettings(weights=str(weights), device="cpu")).evaluate([slab()])
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        batch = load_foundation(ORBSettings(weights=str(weights), device="auto")).evaluate([slab()])
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_allclose(batch.energies, expected.energies, atol=1e-4)
    np.testing.assert_allclose(batch.forces[0], expected.forces[0], atol=1e-3)


def test_forces_and_stress_are_central_differences(foundation):
    """The forces conserve energy, other than the package's own."""
    assert_derivatives_are_central_differences(foundation, 1e-5)


def test_invariance_where_there_is_some(foundation):
    atoms = cluster(2)
    shifted, images = atoms.copy(), atoms.copy()
    shifted.positions += [7.3, -20.1, 11.0]
    order = np.random.default_rng(0).permutation(len(atoms))
    images.positions[1] += atoms.cell.array[0] - 2 * atoms.cell.array[2]
    batch = foundation.evaluate_with([atoms, shifted, atoms[order], images], squares)
    np.testing.assert_allclose(batch.energies, batch.energies[0], atol=1e-9)
    np.testing.assert_allclose(batch.added, batch.added[0], atol=1e-6)
    forces = batch.forces[0]
    for ours, right in zip(batch.forces, [forces, forces, forces[order], forces], strict=True):
        np.testing.assert_allclose(ours, right, atol=1e-8 * np.abs(forces).max())


def test_a_rotation_changes_the_energy(foundation):
    """What the documentation warns of: the model sees directions as they are."""
    atoms = cluster(2)
    rng = np.random.default_rng(7)
    turned = []
    for turn in Rotation.random(8, rng=rng).as_matrix():
        turned.append(atoms.copy())
        turned[-1].set_cell(atoms.cell.array @ turn.T)
        turned[-1].positions = atoms.positions @ turn.T
    energies = foundation.evaluate([atoms, *turned]).energies
    assert np.ptp(energies) > 1e-4  # of random weights, in eV; training only makes it smaller


def test_a_surface_is_taken_as_periodic_in_three_directions(foundation):
    """The package refuses periodicity along some axes only."""
    flat = slab()
    flat.pbc = (True, True, False)
    batch = foundation.evaluate([flat, slab()])
    assert batch.energies[0] == batch.energies[1]


def test_a_repeated_cell_has_repeated_energies(foundation):
    """A cell smaller than the cutoff; neighbours at one distance that are cut at 20 depend on their order."""
    unit = bulk("AgO", "zincblende", a=6.6)
    unit.rattle(0.05, seed=2)
    batch = foundation.evaluate([unit, unit * (2, 2, 1)])
    assert batch.energies[1] == pytest.approx(4 * batch.energies[0], abs=1e-6)


def test_a_left_handed_cell_is_the_same_crystal(foundation):
    assert_a_left_handed_cell_is_the_same_crystal(foundation)


def test_isolated_atoms_and_the_empty_batch(foundation):
    assert_isolated_atoms_feel_nothing(foundation)
    assert foundation.site_energies([cluster(0)]) is None


def test_the_file_names_the_potential(weights, foundation):
    identity = foundation.identity
    assert identity.weights_sha256 == file_sha256(weights)
    assert identity.name == identity.energy_scale == f"orb:{identity.weights_sha256[:12]}"


def test_the_published_weights_are_found_by_their_name(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("GODELTA_WEIGHTS", str(tmp_path))
    (tmp_path / "orb-mptraj-only-v2-20241014.ckpt").symlink_to(weights)
    found = load_foundation(ORBSettings())
    assert found.identity.name == "orb-v2-mptrj"
    with pytest.raises(InputError, match="does not know Po"):
        found.evaluate([Atoms("Po", cell=[18.0] * 3)])


def test_a_file_that_is_no_model_is_refused(weights, tmp_path):
    import torch

    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(weights.read_bytes()[:20_000])
    with pytest.raises(InputError, match="cannot be loaded, damaged") as refused:
        load_foundation(ORBSettings(weights=str(cut)))
    assert "orb-mptraj-only-v2-20241014.ckpt" in str(refused.value)
    other = tmp_path / "other.ckpt"
    torch.save({"a": 1}, other)
    with pytest.raises(InputError, match="holds no weights of an ORB-v2"):
        load_foundation(ORBSettings(weights=str(other)))

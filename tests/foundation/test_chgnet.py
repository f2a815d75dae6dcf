"""CHGNet called directly, against the package's own calculator and finite differences."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from probes import cluster, squares

from godelta.errors import InputError
from godelta.foundation import CHGNetSettings, load_foundation
from godelta.foundation.chgnet import weight_file
from godelta.foundation.weights import file_sha256, verify_shipped


@pytest.fixture(scope="module")
def foundation(require):
    require("chgnet")
    return load_foundation(CHGNetSettings())


def test_equals_the_packages_own_calculator(foundation):
    from chgnet.model.dynamics import CHGNetCalculator

    slab = fcc111("Ag", (2, 2, 3), vacuum=8.0, periodic=True)
    slab.rattle(0.1, seed=1)
    structures = [cluster(0), slab, cluster(1)]
    batch = foundation.evaluate(structures)
    calculator = CHGNetCalculator(use_device="cpu")
    for atoms, energy, forces in zip(structures, batch.energies, batch.forces, strict=True):
        periodic = atoms.copy()
        periodic.pbc = True
        periodic.calc = calculator
        assert energy == pytest.approx(periodic.get_potential_energy(), abs=1e-4)
        np.testing.assert_allclose(forces, periodic.get_forces(), atol=2e-3)


def test_forces_are_finite_differences(foundation):
    atoms, step = cluster(3), 1e-2
    forces = foundation.evaluate([atoms]).forces[0]
    moved = []
    for sign in (1, -1):
        copy = atoms.copy()
        copy.positions[2, 1] += sign * step
        moved.append(copy)
    up, down = foundation.evaluate(moved).energies
    scale = np.abs(forces).max()
    assert forces[2, 1] == pytest.approx(-(up - down) / (2 * step), abs=1e-2 * scale)


def test_stress_and_site_energies(foundation):
    from chgnet.model.dynamics import CHGNetCalculator

    slab = fcc111("Ag", (2, 2, 3), vacuum=4.0, periodic=True)
    slab.rattle(0.1, seed=1)
    batch = foundation.evaluate_with([cluster(0), slab], stress=True)
    slab.calc = CHGNetCalculator(use_device="cpu")
    np.testing.assert_allclose(batch.stresses[1], slab.get_stress(voigt=False), atol=2e-5)
    np.testing.assert_allclose(batch.forces[1], slab.get_forces(), atol=2e-3)
    sites = foundation.site_energies([cluster(0), slab])
    assert [one.shape for one in sites] == [(6,), (12,)]
    np.testing.assert_allclose([one.sum() for one in sites], batch.energies, atol=1e-3)


def test_what_is_added_to_the_energy_shares_the_backward_pass(foundation):
    """A function of the features: its forces are central differences of itself."""
    structures, step = [cluster(3), cluster(4)], 1e-2

    batch = foundation.evaluate_with(structures, squares)
    alone = foundation.evaluate(structures)
    np.testing.assert_array_equal(batch.energies, alone.energies)
    moved = []
    for sign in (1, -1):
        copy = structures[1].copy()
        copy.positions[2, 1] += sign * step
        moved.append(copy)
    up, down = foundation.evaluate_with(moved, squares).added
    slope = (batch.forces[1] - alone.forces[1])[2, 1]
    assert abs(slope) > 0.01
    assert slope == pytest.approx(-(up - down) / (2 * step), rel=1e-2)
    features = foundation.features(structures)
    assert [one.shape for one in features] == [(6, foundation.feature_size)] * 2
    assert (features[1] ** 2).sum() == pytest.approx(batch.added[1], rel=1e-5)


def test_isolated_atoms_and_the_empty_batch(foundation):
    far = Atoms("Ag2", positions=[[2, 2, 2], [10, 10, 10]], cell=[16.0] * 3)
    alone = foundation.evaluate([far]).energies[0]
    batch = foundation.evaluate([cluster(0), far])
    assert batch.energies[1] == pytest.approx(alone, abs=1e-5)
    np.testing.assert_array_equal(batch.forces[1], 0.0)
    assert len(foundation.evaluate([]).energies) == 0


def test_identity_names_weights_and_scale(foundation):
    identity = foundation.identity
    assert identity.name == "chgnet-0.3.0"
    assert identity.energy_scale == "mp2020-corrected"
    assert len(identity.weights_sha256) == 64


def test_the_default_precision_of_torch_is_of_no_account(foundation):
    """A calculator of MACE in the same process sets it to float64."""
    import torch

    expected = foundation.evaluate([cluster(0)])
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for one in (foundation, load_foundation(CHGNetSettings(device="auto"))):
            batch = one.evaluate_with([cluster(0)], stress=True)
            np.testing.assert_allclose(batch.energies, expected.energies, atol=1e-4)
            np.testing.assert_allclose(batch.forces[0], expected.forces[0], atol=2e-3)
    finally:
        torch.set_default_dtype(before)


def test_is_loaded_once(foundation):
    assert load_foundation(CHGNetSettings()) is foundation


def test_weights_of_a_file_of_ones_own(foundation, tmp_path):
    import torch
    from chgnet.model.model import CHGNet

    path = tmp_path / "mine.pth.tar"
    mine = CHGNet.load(verbose=False).as_dict()
    mine["state_dict"]["mlp.layers.7.weight"] = 1.1 * mine["state_dict"]["mlp.layers.7.weight"]
    torch.save({"model": mine}, path)
    own = load_foundation(CHGNetSettings(weights=str(path)))
    assert own.identity.name == own.identity.energy_scale == f"chgnet:{file_sha256(path)[:12]}"
    assert abs(own.evaluate([cluster(0)]).energies[0] - foundation.evaluate([cluster(0)]).energies[0]) > 0.1


def test_a_copy_of_the_published_weights_is_the_published_potential(foundation, tmp_path):
    path = tmp_path / "copy.pth.tar"
    shutil.copy(weight_file(CHGNetSettings())[0], path)
    assert load_foundation(CHGNetSettings(weights=str(path))).identity == foundation.identity


def test_damaged_weights_are_refused(foundation, tmp_path, monkeypatch):
    """The file in the package by its recorded hash; one of the user's because it does not load."""
    shipped = weight_file(CHGNetSettings())[1]
    cut = tmp_path / "cut.pth.tar"
    content = bytearray(shipped.path.read_bytes())
    content[2_000_000] ^= 1
    cut.write_bytes(content)
    with pytest.raises(InputError, match="the weights are damaged: their sha256 is") as refused:
        verify_shipped(replace(shipped, path=cut), file_sha256(cut))
    assert "--force-reinstall --no-deps chgnet==" in str(refused.value)
    cut.write_bytes(content[:2_000_000])
    with pytest.raises(InputError, match="cannot be loaded, damaged"):
        load_foundation(CHGNetSettings(weights=str(cut)))


def test_an_unknown_species_is_named(foundation):
    with pytest.raises(InputError, match="does not know Po"):
        foundation.evaluate([cluster(0), Atoms("PoS", cell=[18.0] * 3)])


def test_a_gpu_that_is_not_there_is_told_in_one_line(caplog):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with caplog.at_level("WARNING"):
        identity = load_foundation(CHGNetSettings(device="cuda")).identity
        assert load_foundation(CHGNetSettings(device="auto")).identity == identity
    assert identity.device == "cpu"
    assert len(caplog.records) == 1
    assert "sees no GPU here" in caplog.text

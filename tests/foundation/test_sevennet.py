"""SevenNet-0 called directly, against the package's own calculator, finite differences and symmetries."""

import pickle
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from scipy.spatial.transform import Rotation

from godelta.errors import InputError
from godelta.foundation import SevenNetSettings, check_foundation, load_foundation
from godelta.foundation.environments import check_environment
from godelta.foundation.torch_graph import Added


@pytest.fixture(scope="module")
def single(require):
    """In float32, loaded by a process that works in float64, as MACE's calculators make it."""
    require("sevennet")
    import torch

    torch.set_default_dtype(torch.float64)
    try:
        return load_foundation(SevenNetSettings(device="cpu"))
    finally:
        assert torch.get_default_dtype() == torch.float64
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def double(require):
    require("sevennet")
    return load_foundation(SevenNetSettings(device="cpu", dtype="float64"))


@pytest.fixture
def shipped(require):
    """The checkpoint of the package."""
    require("sevennet")
    import sevenn._const

    return Path(sevenn._const.SEVENNET_0_11Jul2024)


def cluster(seed: int = 0, symbols: str = "Ag4S2") -> Atoms:
    """Atoms that are not too near: a grid, rattled."""
    atoms = Atoms(symbols, cell=[18.0] * 3)
    grid = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)])
    atoms.positions = (
        6 + 2.6 * grid[: len(atoms)] + np.random.default_rng(seed).normal(0, 0.2, (len(atoms), 3))
    )
    return atoms


def slab() -> Atoms:
    atoms = fcc111("Ag", (2, 2, 3), vacuum=4.0, periodic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_equals_the_packages_own_calculator(single):
    from sevenn.calculator import SevenNetCalculator

    structures = [cluster(0), slab(), cluster(1)]
    batch = single.evaluate_with(structures, stress=True)
    sites = single.site_energies(structures)
    calculator = SevenNetCalculator("7net-0", device="cpu")
    for i, atoms in enumerate(structures):
        periodic = atoms.copy()
        periodic.pbc = True
        periodic.calc = calculator
        assert batch.energies[i] == pytest.approx(periodic.get_potential_energy(), abs=2e-5)
        np.testing.assert_allclose(batch.forces[i], periodic.get_forces(), atol=2e-5)
        np.testing.assert_allclose(batch.stresses[i], periodic.get_stress(voigt=False), atol=1e-6)
        np.testing.assert_allclose(sites[i], calculator.results["energies"], atol=1e-5)
        assert sites[i].sum() == pytest.approx(batch.energies[i], abs=1e-9)


def test_both_precisions_agree(single, double):
    one, two = (foundation.evaluate([cluster(), slab()]) for foundation in (single, double))
    np.testing.assert_allclose(one.energies, two.energies, atol=2e-5)
    np.testing.assert_allclose(one.forces[1], two.forces[1], atol=2e-5)
    assert two.energies[1] != one.energies[1]


def derivative(foundation, moved, step):
    """Slopes of the energy and of what is added to it, to the fourth order, along `moved(h)`."""
    structures = [moved(factor * step) for factor in (-2, -1, 1, 2)]
    batch = foundation.evaluate_with(structures, squares)
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    return weights @ batch.energies, weights @ batch.added


def squares(latent):
    """A function of the features that is no sum over atoms."""
    features = latent.features.detach().double()
    sums = features.new_zeros((latent.count, features.shape[1])).index_add(0, latent.owners, features)
    return Added((sums**2).sum(1).cpu().numpy(), 2 * sums[latent.owners])


def displaced(atoms: Atoms, index: int, axis: int, h: float) -> Atoms:
    copy = atoms.copy()
    copy.positions[index, axis] += h
    return copy


def strained(atoms: Atoms, i: int, j: int, h: float) -> Atoms:
    strain = np.eye(3)
    strain[i, j] += h / 2
    strain[j, i] += h / 2
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return copy


# Below 1e-2 Å, the round-off of float32 energies is what differences consist of.
@pytest.mark.parametrize(("precision", "step", "tolerance"), [("double", 3e-3, 1e-6), ("single", 2e-2, 5e-3)])
def test_forces_and_stress_are_central_differences(request, precision, step, tolerance):
    """Those of the potential alone, and of what a head adds, from the one backward pass."""
    foundation = request.getfixturevalue(precision)
    atoms = slab()
    both = foundation.evaluate_with([cluster(), atoms], squares, stress=True)
    alone = foundation.evaluate_with([cluster(), atoms], stress=True)
    np.testing.assert_array_equal(both.energies, alone.energies)
    added_forces, added_stress = both.forces[1] - alone.forces[1], both.stresses[1] - alone.stresses[1]
    assert np.abs(added_forces).max() > 0.01
    scale, added_scale = np.abs(alone.forces[1]).max(), np.abs(added_forces).max()
    for index, axis in ((0, 0), (4, 1), (11, 2), (7, 2)):
        slopes = derivative(foundation, lambda h, at=(index, axis): displaced(atoms, *at, h), step)
        assert alone.forces[1][index, axis] == pytest.approx(-slopes[0], abs=tolerance * scale)
        assert added_forces[index, axis] == pytest.approx(-slopes[1], abs=tolerance * added_scale)
    for i, j in ((0, 0), (2, 2), (0, 1), (1, 2)):
        slopes = np.array(derivative(foundation, lambda h, at=(i, j): strained(atoms, *at, h), step / 10))
        found = np.array([alone.stresses[1][i, j], added_stress[i, j]])
        largest = np.array([np.abs(alone.stresses[1]).max(), np.abs(added_stress).max()])
        assert (np.abs(found - slopes / atoms.get_volume()) < 3 * tolerance * largest).all()


def test_features_are_what_a_head_is_given(double):
    structures = [cluster(0), slab()]
    features = double.features(structures)
    assert [one.shape for one in features] == [(6, 128), (12, 128)]
    assert double.feature_size == 128
    added = double.evaluate_with(structures, squares).added
    np.testing.assert_allclose([(one.sum(0) ** 2).sum() for one in features], added, rtol=1e-12)


def test_moved_turned_and_renumbered_is_the_same(double):
    atoms = slab()
    turn = Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix()
    moved, turned, order = atoms.copy(), atoms.copy(), np.random.default_rng(0).permutation(len(atoms))
    moved.positions += [3.1, -40.0, 0.7]
    turned.set_cell(atoms.cell.array @ turn, scale_atoms=True)
    images = atoms.copy()
    images.positions[5] += 2 * atoms.cell[0] - atoms.cell[1]
    batch = double.evaluate_with([atoms, moved, turned, atoms[order], images], stress=True)
    np.testing.assert_allclose(batch.energies, batch.energies[0], atol=1e-10)
    expected = [atoms_forces := batch.forces[0], atoms_forces @ turn, atoms_forces[order], atoms_forces]
    for found, wanted in zip(batch.forces[1:], expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-10)
    np.testing.assert_allclose(batch.stresses[2], turn.T @ batch.stresses[0] @ turn, atol=1e-12)
    features = double.features([atoms, turned, atoms[order]])
    np.testing.assert_allclose(features[1], features[0], atol=1e-10)
    np.testing.assert_allclose(features[2], features[0][order], atol=1e-10)


def test_a_cell_smaller_than_the_cutoff_has_all_its_images(double):
    small = bulk("Cu")
    large = small.repeat((3, 2, 2))
    left_handed = Atoms("Cu", cell=small.cell.array[[1, 0, 2]])
    batch = double.evaluate_with([small, large, left_handed], stress=True)
    np.testing.assert_allclose(batch.energies / [1, 12, 1], batch.energies[0], atol=1e-10)
    np.testing.assert_allclose(batch.stresses, np.broadcast_to(batch.stresses[0], (3, 3, 3)), atol=1e-12)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_a_batch_is_its_structures_one_by_one(request, precision):
    foundation = request.getfixturevalue(precision)
    structures = [cluster(0), slab(), bulk("Cu"), cluster(1)]
    batch = foundation.evaluate_with(structures, squares, stress=True)
    atol = 1e-10 if precision == "double" else 2e-5
    for i, atoms in enumerate(structures):
        one = foundation.evaluate_with([atoms], squares, stress=True)
        assert one.energies[0] == pytest.approx(batch.energies[i], abs=atol)
        assert one.added[0] == pytest.approx(batch.added[i], rel=1e-5)
        np.testing.assert_allclose(one.forces[0], batch.forces[i], atol=10 * atol)
        np.testing.assert_allclose(one.stresses[0], batch.stresses[i], atol=atol)


def test_isolated_atoms_and_the_empty_batch(double):
    far = Atoms("Ag2", positions=[[2, 2, 2], [10, 10, 10]], cell=[16.0] * 3)
    lone = Atoms("Ag", cell=[16.0] * 3)
    both = double.evaluate_with([far, cluster(), lone], squares, stress=True)
    assert both.energies[0] == pytest.approx(2 * both.energies[2], abs=1e-12)
    assert double.evaluate([lone]).energies[0] == pytest.approx(both.energies[2], abs=1e-12)
    for values in (*both.forces[::2], both.stresses[0], both.stresses[2], double.evaluate([lone]).forces[0]):
        np.testing.assert_array_equal(values, 0.0)
    assert len(double.evaluate([]).energies) == 0


def test_a_species_that_it_does_not_know_is_named(single):
    with pytest.raises(InputError, match=r"sevennet-0.* does not know Po, Rn"):
        single.evaluate([cluster(), Atoms("AgPoRn", positions=np.eye(3) * 3, cell=[18.0] * 3)])


def test_identity_names_weights_and_scale(single, double, shipped, tmp_path):
    identity = single.identity
    assert (identity.name, identity.dtype, identity.device) == ("sevennet-0", "float32", "cpu")
    assert identity.energy_scale == "pbe-mp-uncorrected"
    assert identity.weights_sha256 == "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36"
    assert double.identity == identity.model_copy(update={"dtype": "float64"})
    copy = shutil.copy(shipped, tmp_path / "mine.pth")
    local = load_foundation(SevenNetSettings(weights=str(copy), device="cpu"))
    assert local.identity == identity
    assert local.evaluate([slab()]).energies[0] == single.evaluate([slab()]).energies[0]


def test_a_file_of_ones_own_is_another_potential(require, shipped, single):
    require("sevennet")
    older = shipped.parent.parent / "SevenNet_0__22May2024" / shipped.name
    local = load_foundation(SevenNetSettings(weights=str(older), device="cpu"))
    assert local.identity.name == f"sevennet:{local.identity.weights_sha256[:12]}"
    assert local.identity.energy_scale == local.identity.name
    assert abs(local.evaluate([slab()]).energies[0] - single.evaluate([slab()]).energies[0]) > 1e-3


def test_nothing_is_fetched(require, monkeypatch):
    require("sevennet")
    from godelta.foundation.sevennet import SevenNetFoundation

    def connect(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert len(SevenNetFoundation(SevenNetSettings(device="cpu")).evaluate([cluster()]).energies) == 1


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_files_that_are_no_checkpoint_are_refused(shipped, tmp_path):
    import torch

    truncated, wrong, evil = tmp_path / "truncated.pth", tmp_path / "wrong.pth", tmp_path / "evil.pth"
    truncated.write_bytes(shipped.read_bytes()[:1_000_000])
    torch.save({"weights": torch.zeros(3)}, wrong)
    torch.save({"config": Malicious(tmp_path / "executed")}, evil)
    pickled = tmp_path / "pickled.pth"
    pickled.write_bytes(pickle.dumps(Malicious(tmp_path / "executed")))
    fidelities = shipped.parent.parent / "SevenNet_MF_0" / "checkpoint_sevennet_mf_0.pth"
    for path in (truncated, wrong, evil, pickled, fidelities, tmp_path / "missing.pth"):
        with pytest.raises(InputError) as caught:
            load_foundation(SevenNetSettings(weights=str(path), device="cpu"))
        assert path.name in str(caught.value)
        assert caught.value.mend
    assert not (tmp_path / "executed").exists()


def test_the_conflict_with_mace_is_named():
    here = "sevennet" if find_spec("sevenn") else "mace" if find_spec("mace") else None
    if here is None:
        pytest.skip("neither mace nor sevennet is to be had here")
    other, name = ("mace", "mace-mp-0") if here == "sevennet" else ("sevennet", "sevennet-0")
    check_environment("itself", here)
    with pytest.raises(InputError, match=rf"{name}.*cannot hold both") as caught:
        check_environment(name, other)
    assert f'"godelta[{other}]" in an environment of its own' in caught.value.mend
    assert "categories" in caught.value.mend


def test_what_cannot_be_loaded_is_known_beforehand():
    if find_spec("sevenn"):
        check_foundation(SevenNetSettings())
    else:
        with pytest.raises(InputError, match="sevennet-0") as caught:
            check_foundation(SevenNetSettings())
        assert "godelta[sevennet]" in caught.value.mend

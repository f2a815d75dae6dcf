"""MACE called directly, against the package's own calculator and central differences.

The published weights are a download: a small model with random weights, built from the package's own classes
and saved to a file, goes the same way.
"""

import subprocess
import sys

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
from godelta.foundation.settings import MACEMP0Settings
from godelta.foundation.weights import file_sha256

SPECIES = [8, 16, 47]


def small_model():
    import mace  # noqa: F401 - before e3nn
    import torch
    from e3nn import o3
    from mace.modules import ScaleShiftMACE, gate_dict, interaction_classes

    torch.manual_seed(5)
    interaction = interaction_classes["RealAgnosticResidualInteractionBlock"]
    return ScaleShiftMACE(
        r_max=4.5,
        num_bessel=6,
        num_polynomial_cutoff=5,
        max_ell=2,
        interaction_cls=interaction,
        interaction_cls_first=interaction,
        num_interactions=2,
        num_elements=len(SPECIES),
        hidden_irreps=o3.Irreps("8x0e + 8x1o"),
        MLP_irreps=o3.Irreps("8x0e"),
        gate=gate_dict["silu"],
        atomic_energies=np.array([-2.0, -1.5, -0.5]),
        avg_num_neighbors=8.0,
        atomic_numbers=SPECIES,
        correlation=2,
        radial_type="bessel",
        radial_MLP=[16, 16],
        atomic_inter_scale=0.8,
        atomic_inter_shift=0.1,
    )


@pytest.fixture(autouse=True)
def _default_precision(require):
    """The package's calculators leave float64 behind as torch's default."""
    require("mace")
    import torch

    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def weights(require, tmp_path_factory):
    require("mace")
    import torch

    path = tmp_path_factory.mktemp("weights") / "small.model"
    torch.save(small_model(), path)
    return path


@pytest.fixture(scope="module")
def foundation(weights):
    return load_foundation(MACEMP0Settings(weights=str(weights), device="cpu", dtype="float64"))


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-10), ("float32", 2e-4)])
def test_equals_the_packages_own_calculator(weights, dtype, close):
    from mace.calculators import MACECalculator

    settings = MACEMP0Settings(weights=str(weights), device="cpu", dtype=dtype)
    structures = [cluster(0), slab(), cluster(1, "AgOS")]
    batch = load_foundation(settings).evaluate_with(structures, stress=True)
    calculator = MACECalculator(model_paths=str(weights), device="cpu", default_dtype="float64")
    for place, atoms in enumerate(structures):
        atoms.calc = calculator
        assert batch.energies[place] == pytest.approx(atoms.get_potential_energy(), abs=close)
        np.testing.assert_allclose(batch.forces[place], atoms.get_forces(), atol=close)
        np.testing.assert_allclose(batch.stresses[place], atoms.get_stress(voigt=False), atol=close)


def test_features_and_site_energies_equal_the_packages_own(weights, foundation):
    from mace.calculators import MACECalculator

    calculator = MACECalculator(model_paths=str(weights), device="cpu", default_dtype="float64")
    structures = [cluster(0), slab()]
    features = foundation.features(structures)
    for atoms, ours, sites in zip(structures, features, foundation.site_energies(structures), strict=True):
        theirs = calculator.get_descriptors(atoms, invariants_only=True)[:, -foundation.feature_size :]
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
        atoms.calc = calculator
        np.testing.assert_allclose(sites, calculator.get_property("energies", atoms), atol=1e-10)
        assert sites.sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


def test_forces_and_stress_are_central_differences(foundation):
    assert_derivatives_are_central_differences(foundation, 1e-4)


def test_invariance(foundation):
    atoms = cluster(2)
    turn = Rotation.from_euler("xyz", [0.3, 1.1, -0.7]).as_matrix()
    turned, shifted, permuted = atoms.copy(), atoms.copy(), atoms.copy()
    turned.set_cell(atoms.cell.array @ turn.T)
    turned.positions = atoms.positions @ turn.T
    shifted.positions += [7.3, -20.1, 11.0]
    order = np.random.default_rng(0).permutation(len(atoms))
    permuted = atoms[order]
    images = atoms.copy()
    images.positions[1] += atoms.cell.array[0] - 2 * atoms.cell.array[2]
    structures = [atoms, turned, shifted, permuted, images]
    batch = foundation.evaluate_with(structures, squares)
    np.testing.assert_allclose(batch.energies, batch.energies[0], atol=1e-10)
    np.testing.assert_allclose(batch.added, batch.added[0], atol=1e-10)
    forces = batch.forces[0]
    expected = [forces, forces @ turn.T, forces, forces[order], forces]
    for ours, right in zip(batch.forces, expected, strict=True):
        np.testing.assert_allclose(ours, right, atol=1e-10)
    features = foundation.features(structures)
    np.testing.assert_allclose(features[1], features[0], atol=1e-10)
    np.testing.assert_allclose(features[3], features[0][order], atol=1e-10)


def test_a_repeated_cell_has_repeated_energies(foundation):
    """A cell smaller than the cutoff: an atom is its own neighbour, many times."""
    unit = bulk("Ag", "fcc", a=4.1)
    batch = foundation.evaluate_with([unit, unit * (2, 2, 3)], stress=True)
    assert batch.energies[1] == pytest.approx(12 * batch.energies[0], abs=1e-9)
    np.testing.assert_allclose(batch.stresses[1], batch.stresses[0], atol=1e-10)


def test_a_left_handed_cell_is_the_same_crystal(foundation):
    assert_a_left_handed_cell_is_the_same_crystal(foundation)


def test_isolated_atoms_and_the_empty_batch(foundation):
    assert_isolated_atoms_feel_nothing(foundation)
    single = Atoms("Ag", positions=[[2, 2, 2]], cell=[16.0] * 3)
    sites = foundation.site_energies([single])
    assert sites[0].sum() == pytest.approx(foundation.evaluate([single]).energies[0], abs=1e-12)


def test_the_default_precision_of_torch_is_of_no_account(weights):
    """A calculator of MACE in the same process sets it to float64."""
    import torch

    expected = load_foundation(MACEMP0Settings(weights=str(weights), device="cpu")).evaluate_with(
        [cluster(0), slab()], stress=True
    )
    torch.set_default_dtype(torch.float64)
    again = load_foundation(MACEMP0Settings(weights=str(weights), device="auto", model="small"))
    batch = again.evaluate_with([cluster(0), slab()], stress=True)
    np.testing.assert_allclose(batch.energies, expected.energies, atol=1e-5)
    np.testing.assert_allclose(batch.stresses, expected.stresses, atol=1e-5)


def test_the_file_names_the_potential(weights, foundation):
    identity = foundation.identity
    assert identity.weights_sha256 == file_sha256(weights)
    assert identity.name == identity.energy_scale == f"mace:{identity.weights_sha256[:12]}"
    assert (identity.device, identity.dtype) == ("cpu", "float64")


@pytest.mark.slow
def test_loading_says_nothing(weights):
    """In a process of its own: what the packages have to say comes with their first import."""
    code = (
        "from godelta.foundation import load_foundation\n"
        "from godelta.foundation.settings import MACEMP0Settings\n"
        f"load_foundation(MACEMP0Settings(weights={str(weights)!r}, device='cpu'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_an_unknown_species_is_named(foundation):
    with pytest.raises(InputError, match="does not know Cu, Au"):
        foundation.evaluate([cluster(0), Atoms("CuAuAg", cell=[18.0] * 3)])


def test_the_published_weights_are_found_by_their_name(weights, tmp_path, monkeypatch):
    name = "2023-12-10-mace-128-L0_energy_epoch-249.model"
    monkeypatch.setenv("GODELTA_WEIGHTS", str(tmp_path))
    (tmp_path / name).symlink_to(weights)
    identity = load_foundation(MACEMP0Settings(model="small")).identity
    assert identity.name == "mace-mp-0-small"
    assert identity.energy_scale == "pbe-mp-uncorrected"


def test_a_file_that_is_no_model_is_refused(weights, tmp_path):
    import torch

    cut = tmp_path / "cut.model"
    cut.write_bytes(weights.read_bytes()[:20_000])
    with pytest.raises(InputError, match="cannot be loaded, damaged") as refused:
        load_foundation(MACEMP0Settings(weights=str(cut)))
    assert "2023-12-03-mace-128-L1_epoch-199.model" in str(refused.value)
    other = tmp_path / "other.model"
    torch.save({"a": 1}, other)
    with pytest.raises(InputError, match="holds no MACE model, but dict"):
        load_foundation(MACEMP0Settings(weights=str(other)))

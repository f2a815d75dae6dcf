"""Foundation + Δ wholly in float64: forces and stresses of every aggregation are central differences."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from godelta.delta.embedding import train_embedding
from godelta.delta.model import DeltaModel
from godelta.delta.settings import DeltaSettings
from godelta.foundation import load_foundation
from godelta.foundation.settings import MACEMP0Settings

SPECIES = (16, 47)


@pytest.fixture(scope="module")
def foundation(require, tmp_path_factory):
    """A small model with random weights; what it says is smooth, and that is all that counts here."""
    require("mace")
    import mace  # noqa: F401 - before e3nn
    import torch
    from e3nn import o3
    from mace.modules import ScaleShiftMACE, gate_dict, interaction_classes

    before = torch.get_default_dtype()
    torch.manual_seed(5)
    interaction = interaction_classes["RealAgnosticResidualInteractionBlock"]
    model = ScaleShiftMACE(
        r_max=4.5, num_bessel=6, num_polynomial_cutoff=5, max_ell=2, interaction_cls=interaction,
        interaction_cls_first=interaction, num_interactions=2, num_elements=2, MLP_irreps=o3.Irreps("8x0e"),
        hidden_irreps=o3.Irreps("8x0e + 8x1o"), gate=gate_dict["silu"], avg_num_neighbors=8.0,
        atomic_energies=np.array([-1.5, -0.5]), atomic_numbers=list(SPECIES), correlation=2,
        radial_type="bessel", radial_MLP=[16, 16], atomic_inter_scale=0.8, atomic_inter_shift=0.1,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("weights") / "small.model"
    torch.save(model, path)
    yield load_foundation(MACEMP0Settings(weights=str(path), device="cpu", dtype="float64"))
    torch.set_default_dtype(before)


def cluster(seed: int, formula: str = "Ag4S3") -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = Atoms(formula, cell=[14.0] * 3, pbc=True)
    placed: list[np.ndarray] = []
    while len(placed) < len(atoms):
        trial = rng.normal(scale=1.7, size=3)
        if all(np.linalg.norm(trial - other) > 2.0 for other in placed):
            placed.append(trial)
    atoms.positions = np.array(placed) + 7.0
    return atoms


def crystal(seed: int) -> Atoms:
    atoms = bulk("Ag", cubic=True)
    atoms[0].number = 16
    atoms.rattle(0.1, seed=seed)
    return atoms


@pytest.fixture(scope="module", params=["global", "species", "atomic", "atomic-sparse"])
def model(request, foundation):
    structures = [cluster(k, "Ag4S3" if k % 3 else "Ag3S4") for k in range(10)] + [
        crystal(k) for k in range(4)
    ]
    base = foundation.evaluate(structures).energies
    residuals = 0.3 * np.array(
        [np.exp(-((a.get_all_distances(mic=True) / 3) ** 2)).sum() for a in structures]
    )
    settings = DeltaSettings(
        descriptor="embedding", aggregation=request.param.split("-")[0], force_directions=0,
        inducing_points=20 if "sparse" in request.param else 1000,
    )  # fmt: skip
    correction = train_embedding(
        settings, SPECIES, structures, base, base + residuals, [f"{k:02d}" for k in range(14)],
        foundation=foundation,
    )  # fmt: skip
    return DeltaModel(foundation, correction)


def value(model, structures, kappa):
    b = model.evaluate(structures, uncertainty=True)
    return b.energies - kappa * b.uncertainties


@pytest.mark.parametrize("kappa", [0.0, 1.7])
def test_forces(model, kappa):
    step, rng = 1e-3, np.random.default_rng(0)
    for atoms in (cluster(40), cluster(41, "Ag3S2"), crystal(9)):
        forces = model.evaluate([atoms], kappa=kappa).forces[0]
        alone = model.foundation.evaluate([atoms]).forces[0]
        assert np.abs(forces - alone).max() > 1e-3
        direction = rng.normal(size=(len(atoms), 3))
        direction /= np.linalg.norm(direction)
        moved = []
        for n in (2, 1, -1, -2):
            copy = atoms.copy()
            copy.positions += n * step * direction
            moved.append(copy)
        slope = float(np.dot([-1 / 12, 2 / 3, -2 / 3, 1 / 12], value(model, moved, kappa))) / step
        assert -slope == pytest.approx(float(np.sum(forces * direction)), abs=1e-6 * np.linalg.norm(forces))


@pytest.mark.parametrize("kappa", [0.0, 1.7])
def test_stresses(model, kappa):
    step, atoms = 2e-4, crystal(9)
    strain = np.array([[1.0, 0.4, 0.0], [0.4, -0.5, 0.2], [0.0, 0.2, 0.7]])
    stress = model.evaluate([atoms], kappa=kappa, stress=True).stresses[0]
    moved = []
    for n in (2, 1, -1, -2):
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array @ (np.eye(3) + n * step * strain), scale_atoms=True)
        moved.append(copy)
    slope = float(np.dot([-1 / 12, 2 / 3, -2 / 3, 1 / 12], value(model, moved, kappa))) / step
    expected = slope / atoms.get_volume()
    assert float(np.sum(stress * strain)) == pytest.approx(expected, abs=2e-6 * np.linalg.norm(stress))


def test_symmetries(model):
    atoms = cluster(50)
    turned = atoms.copy()
    turned.rotate(77.0, (1, 2, 3), center="COU")
    moved = atoms.copy()
    moved.translate([3.3, -0.7, 2.0])
    order = np.random.default_rng(0).permutation(len(atoms))
    b = model.evaluate([atoms, turned, moved, atoms[order]], kappa=1.0)
    np.testing.assert_allclose(b.energies, b.energies[0], atol=1e-9)
    np.testing.assert_allclose(b.uncertainties, b.uncertainties[0], rtol=1e-8)
    np.testing.assert_allclose(b.forces[2], b.forces[0], atol=1e-8)
    np.testing.assert_allclose(b.forces[3], b.forces[0][order], atol=1e-8)
    np.testing.assert_allclose(b.forces[0].sum(axis=0), 0.0, atol=1e-8)

"""The Δ-model on SevenNet-0's own features, in float64: every aggregation has the slopes that it should."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from godelta.delta.embedding import train_embedding
from godelta.delta.model import DeltaModel
from godelta.delta.settings import DeltaSettings
from godelta.errors import GodeltaError
from godelta.foundation import SevenNetSettings, load_foundation

pytestmark = pytest.mark.sevennet
SPECIES = (16, 47)
SLOPE = np.array([-1, 8, -8, 1]) / 12  # of values at 2, 1, -1, -2 steps, to the fourth order


@pytest.fixture(scope="module")
def foundation(require):
    require("sevennet")
    return load_foundation(SevenNetSettings(device="cpu", dtype="float64"))


def crystal(seed: int) -> Atoms:
    atoms = bulk("Ag", cubic=True)
    atoms[seed % 4].number = 16
    atoms.rattle(0.15, seed=seed)
    return atoms


@pytest.fixture(scope="module", params=["global", "species", "atomic"])
def model(request, foundation):
    structures = [crystal(seed) for seed in range(12)]
    base = foundation.evaluate(structures).energies
    distances = [atoms.get_all_distances(mic=True) for atoms in structures]
    residuals = 0.3 * np.array([np.exp(-((d / 3) ** 2)).sum() for d in distances])
    settings = DeltaSettings(descriptor="embedding", aggregation=request.param, force_directions=0)
    names = [f"{number:02d}" for number in range(12)]
    correction = train_embedding(
        settings, SPECIES, structures, base, base + residuals, names, foundation=foundation
    )
    return DeltaModel(foundation, correction)


@pytest.mark.parametrize("kappa", [0.0, 1.7])
def test_forces_and_stresses_are_central_differences(model, kappa):
    atoms, rng = crystal(20), np.random.default_rng(1)
    direction = rng.normal(size=(len(atoms), 3)) / np.sqrt(3 * len(atoms))
    strain = np.array([[1.0, 0.4, 0.0], [0.4, -0.5, 0.2], [0.0, 0.2, 0.7]])
    moved, strained = [], []
    for n in (2, 1, -1, -2):
        moved.append(atoms.copy())
        moved[-1].positions += n * 1e-3 * direction
        strained.append(atoms.copy())
        strained[-1].set_cell(atoms.cell.array @ (np.eye(3) + n * 2e-4 * strain), scale_atoms=True)
    batch = model.evaluate([atoms], kappa=kappa, stress=True)
    ahead = model.evaluate([*moved, *strained], uncertainty=True)
    values = (ahead.energies - kappa * ahead.uncertainties).reshape(2, 4)
    forces, stress = batch.forces[0], batch.stresses[0]
    bare = model.foundation.evaluate([atoms]).forces[0]
    assert np.abs(forces - bare).max() > 1e-3
    assert np.sum(forces * direction) == pytest.approx(
        -SLOPE @ values[0] / 1e-3, abs=1e-6 * np.linalg.norm(forces)
    )
    expected = SLOPE @ values[1] / 2e-4 / atoms.get_volume()
    assert np.sum(stress * strain) == pytest.approx(expected, abs=2e-6 * np.linalg.norm(stress))


def test_turned_and_renumbered_is_the_same(model):
    atoms = crystal(21)
    turned, order = atoms.copy(), np.array([2, 0, 3, 1])
    turned.rotate(77.0, (1, 2, 3), rotate_cell=True)
    batch = model.evaluate([atoms, turned, atoms[order]], kappa=1.0)
    np.testing.assert_allclose(batch.energies, batch.energies[0], atol=1e-9)
    np.testing.assert_allclose(batch.uncertainties, batch.uncertainties[0], rtol=1e-7)
    np.testing.assert_allclose(batch.forces[2], batch.forces[0][order], atol=1e-8)


def test_other_weights_have_other_features(model):
    """What was learnt on SevenNet-0 is refused with an older SevenNet."""
    import sevenn._const

    other = load_foundation(SevenNetSettings(weights=sevenn._const.SEVENNET_0_22May2024, device="cpu"))
    with pytest.raises(GodeltaError, match="sevennet"):
        DeltaModel(other, model.correction).evaluate([crystal(0)])
